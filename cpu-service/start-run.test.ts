import { afterEach, describe, expect, test } from '@jest/globals';
import type { Backend } from '../core/backends.ts';
import type { JobRecord } from '../core/job.ts';
import { activeKey, type JobRef, jobKey } from '../core/objects.ts';
import { problemSlug } from '../core/problem.ts';
import { CPU_QUEUE } from '../core/tasks/task.ts';
import { readTaskPayload } from '../core/tasks/task-payload.ts';
import {
  CLOUD_RUN_JOB,
  makeRunsStore,
  type RunsStore,
  SERVICE,
  VERTEX,
} from '../tests/support/runs-store.ts';
import { startRun } from './start-run.ts';

let store: RunsStore;
afterEach(() => store.remove());

const JOB_ALONE: Backend[] = [CLOUD_RUN_JOB];
const QUOTA = 'Quota exceeded for total allowable count of GPUs per project per region.';
const set = (job: JobRef, fields: Partial<JobRecord>) =>
  store.change(job, (record) => {
    Object.assign(record, fields);
  });
const kinds = async () => (await store.workOff()).map(({ kind }) => kind);

describe('starting', () => {
  test('writes down what it starts, and starts it with the task of the job', async () => {
    store = await makeRunsStore(JOB_ALONE);
    const job = await store.submitTo('gpu-job');
    expect(await kinds()).toEqual(['done']);
    const [execution] = store.fake.executions;
    const { run } = await store.record(job);
    expect(run).toMatchObject({ backend: 'gpu-job', part: 1, state: 'started', execution: execution?.name });
    expect(readTaskPayload(JSON.parse(execution?.env.RUN_TASK as string))).toEqual({
      type: 'transcribe',
      job,
      part: 1,
      run: run?.id,
    });
  });

  test('passes on which part it is', async () => {
    store = await makeRunsStore(JOB_ALONE);
    const job = await store.submitTo('gpu-job');
    await startRun(store, { type: 'start-run', job, part: 3 });
    expect(JSON.parse(store.fake.executions[0]?.env.RUN_TASK as string).part).toBe(3);
  });

  test.each<[string, (job: JobRef) => Promise<void>]>([
    ['has ended', (job) => set(job, { status: 'completed' })],
    ['is claimed', (job) => set(job, { lease: { holder: 'x', epoch: 2 } })],
    ['was deleted', (job) => store.records.delete(jobKey(job))],
    ['is with a backend that is called', (job) => set(job, { backend: 'service' })],
  ])('has nothing to do for a job that %s', async (_, change) => {
    store = await makeRunsStore([CLOUD_RUN_JOB, SERVICE]);
    const job = await store.submitTo('gpu-job');
    await change(job);
    expect(await kinds()).toEqual(['done']);
    expect(store.fake.executions).toEqual([]);
  });

  test('a task that comes twice starts one run', async () => {
    store = await makeRunsStore(JOB_ALONE);
    const job = await store.submitTo('gpu-job');
    const task = { type: 'start-run', job, part: 1 } as const;
    const outcomes = await Promise.all([1, 2, 3].map(() => startRun(store, task)));
    expect(outcomes.map(({ kind }) => kind)).toContain('done');
    await store.workOff();
    expect(store.fake.executions).toHaveLength(1);
  });

  test('a job that is to be canceled is canceled instead', async () => {
    store = await makeRunsStore(JOB_ALONE);
    const job = await store.submitTo('gpu-job');
    await set(job, { cancel_requested: true });
    expect(await kinds()).toEqual(['done']);
    expect((await store.record(job)).status).toBe('canceled');
    expect(store.fake.executions).toEqual([]);
  });
});

describe('when nobody knows whether it was started', () => {
  test('after a lost reply it is found, and there is one', async () => {
    store = await makeRunsStore(JOB_ALONE);
    store.fake.inject({ operation: 'start', kind: 'lose-reply' });
    const job = await store.submitTo('gpu-job');
    expect(await kinds()).toEqual(['retry']);
    expect((await store.record(job)).run).toMatchObject({ state: 'unclear', execution: null });
    expect(await kinds()).toEqual(['done']);
    expect(store.fake.executions).toHaveLength(1);
    expect((await store.record(job)).run?.execution).toBe(store.fake.executions[0]?.name);
  });

  test('after an answer that says nothing it is looked for in vain, and started', async () => {
    store = await makeRunsStore([{ ...CLOUD_RUN_JOB, max_running: 1 }, SERVICE]);
    store.fake.inject({ operation: 'start', kind: 'refuse', status: 503, message: 'Try again.' });
    const job = await store.submitTo('gpu-job');
    expect(await kinds()).toEqual(['retry']);
    expect(await kinds()).toEqual(['done']);
    // The note of its first try is not in its way.
    expect(await store.record(job)).toMatchObject({ backend: 'gpu-job', run: { state: 'started' } });
    expect(store.fake.executions).toHaveLength(1);
  });
});

test('one that may not be looked for is left for the next backend', async () => {
  store = await makeRunsStore([CLOUD_RUN_JOB, VERTEX]);
  store.fake.inject({ operation: 'start', kind: 'lose-reply' });
  store.fake.inject({ operation: 'list', kind: 'refuse', status: 403, message: 'denied' });
  const job = await store.submitTo('gpu-job');
  expect(await kinds()).toEqual(['retry']);
  expect(await kinds()).toEqual(['done', 'done']);
  expect(await store.record(job)).toMatchObject({
    backend: 'vertex',
    routing: { because: 'gpu-job may not be started by this service' },
    run: { backend: 'vertex', state: 'started' },
  });
});

describe('when the backend refuses', () => {
  test('the next one that fits gets the job, and the job says why', async () => {
    store = await makeRunsStore([CLOUD_RUN_JOB, VERTEX]);
    store.fake.inject({ operation: 'start', kind: 'refuse', status: 429, message: QUOTA });
    const job = await store.submitTo('gpu-job');
    expect(await kinds()).toEqual(['done', 'done']);
    const record = await store.record(job);
    expect(record).toMatchObject({
      backend: 'vertex',
      routing: {
        chosen: 'vertex',
        because: 'gpu-job has no room for another job at the moment',
        alternatives: [],
      },
      run: { backend: 'vertex', state: 'started' },
      tries: { transcribe: { attempt: 0 } },
    });
    expect(store.fake.executions).toMatchObject([{ labels: { zeroscribe_backend: 'vertex' } }]);
  });

  test('a backend that is called gets its task on its own queue', async () => {
    store = await makeRunsStore([CLOUD_RUN_JOB, SERVICE]);
    store.fake.inject({ operation: 'start', kind: 'refuse', status: 403, message: 'denied' });
    const job = await store.submitTo('gpu-job');
    expect(await kinds()).toEqual(['done']);
    expect(store.queue.take('service', 60_000)?.task.payload).toEqual({ type: 'transcribe', job, part: 1 });
    expect((await store.record(job)).routing.because).toBe('gpu-job may not be started by this service');
  });

  test('it goes to none that is not for such recordings, nor of another tier', async () => {
    store = await makeRunsStore([
      CLOUD_RUN_JOB,
      { ...VERTEX, max_duration_seconds: 30 },
      { name: 'cheap', kind: 'server', tier: 'standard', url: 'https://cheap.example' },
    ]);
    store.fake.inject({ operation: 'start', kind: 'refuse', status: 429, message: QUOTA });
    const job = await store.submitTo('gpu-job');
    expect(await kinds()).toEqual(['retry']);
    expect(await store.record(job)).toMatchObject({ backend: 'gpu-job', run: null });
    expect(await kinds()).toEqual(['done']);
    expect(store.fake.executions).toHaveLength(1);
  });

  test('when none has room, the first is asked again after a while, and no attempt is counted', async () => {
    store = await makeRunsStore([CLOUD_RUN_JOB, VERTEX]);
    store.fake.inject({ operation: 'start', kind: 'refuse', status: 429, message: QUOTA, times: 2 });
    const job = await store.submitTo('gpu-job');
    expect(await kinds()).toEqual(['done', 'done']);
    const record = await store.record(job);
    expect(record).toMatchObject({
      status: 'processing',
      backend: 'gpu-job',
      run: null,
      passed_over: [],
      tries: { transcribe: { attempt: 0 } },
    });
    expect(await store.queue.has(record.task as never)).toBe(true);
    const waitMs = Number(store.queue.nextDueAt(CPU_QUEUE)) - Date.now();
    expect(waitMs).toBeGreaterThan(30_000);
    await startRun(store, { type: 'start-run', job, part: 1 });
    expect((await store.record(job)).run).toMatchObject({ backend: 'gpu-job', state: 'started' });
  });

  test.each([
    [
      403,
      "Permission 'run.jobs.runWithOverrides' denied",
      'may not be started by this service.',
      'Run Jobs Executor',
    ],
    [404, 'it does not exist', 'is not there.', 'deploys it'],
    [400, 'Invalid value', 'is not configured right.', 'log of cpu-service'],
  ])(
    'a hopeless refusal (%d) without another backend fails the job, and says who does what',
    async (status, message, why, advice) => {
      store = await makeRunsStore(JOB_ALONE);
      store.fake.inject({ operation: 'start', kind: 'refuse', status, message });
      const job = await store.submitTo('gpu-job');
      expect(await kinds()).toEqual(['failed']);
      const record = await store.record(job);
      expect(record).toMatchObject({ status: 'failed', run: null, task: null });
      expect(problemSlug(record.problem as never)).toBe('backend-refused');
      expect(record.problem?.detail).toContain(`The backend gpu-job ${why}`);
      expect(record.problem?.detail).toContain(advice);
      // For the retry, once it is put right.
      expect(record.objects.audio).not.toBeNull();
      expect(await store.records.read(activeKey(job))).toBeUndefined();
    },
  );

  test('one that has no room is asked again after one that is hopeless', async () => {
    store = await makeRunsStore([CLOUD_RUN_JOB, VERTEX]);
    store.fake.inject({ operation: 'start', kind: 'refuse', status: 429, message: QUOTA });
    store.fake.inject({ operation: 'start', kind: 'refuse', status: 403, message: 'denied' });
    const job = await store.submitTo('gpu-job');
    expect(await kinds()).toEqual(['done', 'done']);
    expect(await store.record(job)).toMatchObject({
      status: 'processing',
      backend: 'gpu-job',
      passed_over: [{ backend: 'vertex', is_passing: false }],
    });
  });

  test('a backend that is no longer in the list is left for the next', async () => {
    store = await makeRunsStore([CLOUD_RUN_JOB, VERTEX]);
    const job = await store.submitTo('gpu-job');
    const context = { ...store, backends: [VERTEX], runs: new Map([...(store.runs ?? [])].slice(1)) };
    await store.workOff(context);
    expect(await store.record(job)).toMatchObject({ backend: 'vertex', run: { backend: 'vertex' } });
  });
});

describe('the limit of a backend', () => {
  test('fails a job whose backend may not even be asked how many it has', async () => {
    store = await makeRunsStore([{ ...CLOUD_RUN_JOB, max_running: 1 }]);
    store.fake.inject({ operation: 'list', kind: 'refuse', status: 403, message: 'denied' });
    const job = await store.submitTo('gpu-job');
    expect(await kinds()).toEqual(['failed']);
    expect((await store.record(job)).problem?.detail).toContain('Cloud Run Viewer on the job');
  });

  test('does not count the run that did the part before, which is about to end', async () => {
    store = await makeRunsStore([{ ...CLOUD_RUN_JOB, max_running: 1 }, VERTEX]);
    const job = await store.submitTo('gpu-job');
    await store.workOff();
    await store.change(job, (record) => {
      record.run = null;
      record.tries.transcribe = { attempt: 1, part: 1 };
    });
    await startRun(store, { type: 'start-run', job, part: 2 });
    expect((await store.record(job)).run).toMatchObject({ backend: 'gpu-job', part: 2, state: 'started' });
    // Of others it counts one.
    await store.submitTo('gpu-job');
    await store.workOff();
    expect(store.fake.executions.map(({ labels }) => labels.zeroscribe_backend)).toEqual([
      undefined,
      undefined,
      'vertex',
    ]);
  });

  test('fails a job that finds no room, and that no backend is for any more, and says so', async () => {
    store = await makeRunsStore([{ ...CLOUD_RUN_JOB, max_running: 1 }]);
    await store.submitTo('gpu-job');
    await store.workOff();
    const job = await store.submitTo('gpu-job');
    await set(job, { duration_seconds: 7_200 });
    const backends = [{ ...CLOUD_RUN_JOB, max_running: 1, max_duration_seconds: 3_600 }];
    expect((await startRun({ ...store, backends }, { type: 'start-run', job, part: 1 })).kind).toBe('failed');
    expect((await store.record(job)).problem?.detail).toContain('has as many jobs as it may have at a time');
  });

  test('holds when many are started at once', async () => {
    store = await makeRunsStore([{ ...CLOUD_RUN_JOB, max_running: 2 }]);
    const jobs = await Promise.all(Array.from({ length: 6 }, () => store.submitTo('gpu-job')));
    const outcomes = await Promise.all(
      jobs.map((job) => startRun(store, { type: 'start-run', job, part: 1 })),
    );
    expect(outcomes.filter(({ kind }) => kind === 'done')).toHaveLength(2);
    expect(store.living()).toHaveLength(2);
  });

  test('keeps a job of the tier auto in the line where it is expected to cost less, until its deadline comes near', async () => {
    // Spot costs a third of what Mistral's API does.
    const spot: Backend = {
      ...{ ...VERTEX, max_running: 1 },
      spec: { ...VERTEX.spec, scheduling: { strategy: 'SPOT' } },
    };
    store = await makeRunsStore([spot, { name: 'api', kind: 'voxtral', tier: 'standard' }]);
    await store.submitTo('vertex');
    await store.workOff();
    const second = await store.submitTo('vertex');
    const { options } = await store.record(second);
    await set(second, { options: { ...options, tier: 'auto' }, duration_seconds: 3_600 });
    expect(await kinds()).toEqual(['retry']);
    expect(await store.record(second)).toMatchObject({ backend: 'vertex', run: null, handovers: 0 });
    await set(second, { options: { ...options, tier: 'auto', deadline_seconds: 300 } });
    expect(await kinds()).toEqual(['done']);
    expect(await store.record(second)).toMatchObject({ backend: 'api' });
  });

  test('sends what is above it to the next backend, and what finds none waits until one has ended', async () => {
    store = await makeRunsStore([
      { ...CLOUD_RUN_JOB, max_running: 1 },
      { ...VERTEX, max_running: 1 },
    ]);
    const jobs = [];
    for (let n = 0; n < 3; n++) {
      jobs.push(await store.submitTo('gpu-job'));
      await store.workOff();
    }
    const records = await Promise.all(jobs.map((job) => store.record(job)));
    expect(records.map(({ run }) => run?.backend)).toEqual(['gpu-job', 'vertex', undefined]);
    expect(records[1]?.routing.because).toBe('gpu-job has as many jobs as it may have at a time, which is 1');
    const third = jobs[2] as JobRef;
    const task = { type: 'start-run', job: third, part: 1 } as const;
    expect((await startRun(store, task)).kind).toBe('done');
    expect((await store.record(third)).run).toBeNull();
    Object.assign(store.fake.executions[0] as object, { state: 'succeeded' });
    await set(third, { backend: 'gpu-job' });
    expect((await startRun(store, task)).kind).toBe('done');
    expect((await store.record(third)).run).toMatchObject({ backend: 'gpu-job', state: 'started' });
    expect(store.living()).toHaveLength(2);
  });
});
