import { afterEach, describe, expect, test } from '@jest/globals';
import type { Backend } from '../core/backends.ts';
import { isSettled, type JobRecord, type Run } from '../core/job.ts';
import { activeKey, type JobRef, jobKey } from '../core/objects.ts';
import { problemSlug } from '../core/problem.ts';
import { cancelJob } from '../core/tasks/cancel-job.ts';
import { ATTEMPT_LIMIT } from '../core/tasks/claim-job.ts';
import { deleteJob } from '../core/tasks/delete-job.ts';
import { nextTask } from '../core/tasks/next-task.ts';
import { retryJob } from '../core/tasks/retry-job.ts';
import { taskRef } from '../core/tasks/task.ts';
import { agedRecords } from '../tests/support/aged-records.ts';
import { Death, dying } from '../tests/support/dying.ts';
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

const MINUTE_MS = 60_000;
const JOB_ALONE: Backend[] = [CLOUD_RUN_JOB];
const ALL: Backend[] = [CLOUD_RUN_JOB, VERTEX, SERVICE];

const set = (job: JobRef, fields: Partial<JobRecord>) =>
  store.change(job, (record) => {
    Object.assign(record, fields);
  });
const setState = (index: number, state: string) =>
  Object.assign(store.fake.executions[index] as object, { state });
const minutesLater = (minutes: number) => store.later(minutes * MINUTE_MS);

async function started(backends: readonly Backend[] = JOB_ALONE): Promise<JobRef> {
  store = await makeRunsStore(backends);
  const job = await store.submitTo('gpu-job');
  await store.workOff();
  return job;
}

describe('reconcile', () => {
  test.each(['pending', 'running'])('takes a run that is %s for a task that lives', async (state) => {
    const job = await started(ALL);
    setState(0, state);
    const before = await store.record(job);
    await store.reconcile(minutesLater(14));
    expect(await store.record(job)).toEqual(before);
    expect(await store.workOff()).toEqual([]);
  });

  test('waits for one that takes long, where there is no other backend', async () => {
    const job = await started();
    const before = await store.record(job);
    await store.reconcile(minutesLater(300));
    expect(await store.record(job)).toEqual(before);
    expect(store.living()).toHaveLength(1);
  });

  test('stops one that has not begun in time, and asks the next backend', async () => {
    const job = await started(ALL);
    await store.reconcile(minutesLater(16));
    expect(await store.record(job)).toMatchObject({
      backend: 'vertex',
      routing: { because: 'gpu-job did not begin with it in time', alternatives: ['service'] },
      run: null,
      tries: { transcribe: { attempt: 0 } },
    });
    expect(store.fake.executions).toMatchObject([{ state: 'canceled' }]);
    await store.workOff();
    expect(store.living()).toMatchObject([{ labels: { zeroscribe_backend: 'vertex' } }]);
  });

  test.each([
    ['what its entry says', { ...CLOUD_RUN_JOB, claim_timeout_seconds: 60 }, 2, 'vertex'],
    ['what its entry says, not longer', { ...CLOUD_RUN_JOB, claim_timeout_seconds: 3_600 }, 59, 'gpu-job'],
  ])('waits as long as %s', async (_, backend, minutes, expected) => {
    const job = await started([backend, VERTEX]);
    await store.reconcile(minutesLater(minutes));
    expect((await store.record(job)).backend).toBe(expected);
  });

  test('gives flex-start the time that it may look for a machine', async () => {
    const scheduling = { strategy: 'FLEX_START', maxWaitDuration: '7200s' };
    const flex = { ...VERTEX, spec: { ...VERTEX.spec, scheduling } };
    store = await makeRunsStore([flex, CLOUD_RUN_JOB]);
    const job = await store.submitTo('vertex');
    await store.workOff();
    await store.reconcile(minutesLater(149));
    expect((await store.record(job)).backend).toBe('vertex');
    await store.reconcile(minutesLater(151));
    expect((await store.record(job)).backend).toBe('gpu-job');
  });

  test('asks the next backend after a run that ended before it began, and counts that', async () => {
    const job = await started([CLOUD_RUN_JOB, SERVICE]);
    setState(0, 'failed');
    await store.reconcile(minutesLater(1));
    expect(await store.record(job)).toMatchObject({
      routing: { because: 'gpu-job ended before it began with it' },
      tries: { transcribe: { attempt: 1 } },
    });
    expect(store.queue.take('service', 60_000)?.task.payload).toMatchObject({ type: 'transcribe', job });
  });

  test('starts another where there is no other backend, and not for ever', async () => {
    const job = await started();
    for (let times = 1; times < ATTEMPT_LIMIT; times++) {
      setState(times - 1, 'failed');
      await store.reconcile(minutesLater(1));
      await store.workOff();
      expect(store.fake.executions).toHaveLength(times + 1);
      expect((await store.record(job)).tries.transcribe.attempt).toBe(times);
    }
    setState(ATTEMPT_LIMIT - 1, 'failed');
    await store.reconcile(minutesLater(1));
    const record = await store.record(job);
    expect(problemSlug(record.problem as never)).toBe('too-many-attempts');
    expect(record).toMatchObject({ status: 'failed', run: null });
    expect(await store.records.read(activeKey(job))).toBeUndefined();
  });

  test.each(['failed', 'running'] as const)(
    'does not start for ever one whose run is %s and does not begin, while the other has no room',
    async (state) => {
      store = await makeRunsStore([CLOUD_RUN_JOB, VERTEX]);
      const job = await store.submitTo('gpu-job');
      // At once, although the queue would wait a minute with it.
      const doTask = async () => {
        await store.queue.delete((await store.record(job)).task as never);
        await startRun(store, { type: 'start-run', job, part: 1 });
      };
      let starts = 0;
      while (!isSettled((await store.record(job)).status)) {
        expect(starts).toBeLessThan(ATTEMPT_LIMIT);
        await doTask();
        setState(starts, state);
        starts += 1;
        store.fake.inject({ operation: 'start', kind: 'refuse', status: 429, message: 'quota' });
        await store.reconcile(minutesLater(16));
        if (!isSettled((await store.record(job)).status)) await doTask();
        store.fake.clearFaults();
      }
      expect(starts).toBe(ATTEMPT_LIMIT);
      expect(problemSlug((await store.record(job)).problem as never)).toBe('too-many-attempts');
      expect(store.living()).toEqual([]);
    },
  );

  test('goes back from one that does not begin in time to one that it had left before', async () => {
    const job = await started([CLOUD_RUN_JOB, VERTEX]);
    await store.reconcile(minutesLater(16));
    await store.workOff();
    await store.reconcile(minutesLater(31));
    expect(await store.record(job)).toMatchObject({
      backend: 'gpu-job',
      run: null,
      passed_over: [],
      tries: { transcribe: { attempt: 0 } },
    });
    expect(store.living()).toEqual([]);
    await startRun(store, { type: 'start-run', job, part: 1 });
    expect(store.living()).toHaveLength(1);
  });

  test('takes a task back too that nobody takes, for one that the job had left before', async () => {
    const job = await started([CLOUD_RUN_JOB, SERVICE]);
    await store.reconcile(minutesLater(16));
    const { task, backend } = await store.record(job);
    expect(backend).toBe('service');
    await store.reconcile(minutesLater(16));
    expect((await store.record(job)).backend).toBe('gpu-job');
    expect(await store.queue.has(task as never)).toBe(false);
  });

  test('gives the job of a backend that is no longer in the list to another', async () => {
    store = await makeRunsStore([SERVICE, CLOUD_RUN_JOB]);
    const job = await store.submitTo('service');
    const { task } = await store.record(job);
    await store.reconcile({ ...minutesLater(1), backends: [CLOUD_RUN_JOB] });
    expect(await store.record(job)).toMatchObject({
      backend: 'gpu-job',
      passed_over: [{ backend: 'service', because: 'is no longer in BACKENDS', is_passing: false }],
    });
    expect(await store.queue.has(task as never)).toBe(false);
    await store.workOff();
    expect(store.living()).toHaveLength(1);
  });

  test('fails the job of a backend that is no longer in the list where no other takes it', async () => {
    store = await makeRunsStore([SERVICE]);
    const job = await store.submitTo('service');
    await store.reconcile({ ...minutesLater(1), backends: [{ ...SERVICE, name: 'a', tier: 'standard' }] });
    const record = await store.record(job);
    expect(problemSlug(record.problem as never)).toBe('backend-refused');
    expect(record.problem?.detail).toContain('The backend service is no longer in BACKENDS');
    expect(await store.records.read(activeKey(job))).toBeUndefined();
  });

  test('leaves a run alone that works, and stops one that has lost its lease before the next attempt', async () => {
    const job = await started();
    setState(0, 'running');
    const tries = { ingest: { attempt: 1, part: 1 }, transcribe: { attempt: 1, part: 1 } };
    await set(job, { lease: { holder: 'x', epoch: 2 }, epoch: 2, tries });
    await store.reconcile();
    expect((await store.record(job)).lease).not.toBeNull();
    await store.reconcile(minutesLater(2));
    expect(store.fake.executions).toMatchObject([{ state: 'canceled' }]);
    expect(await store.record(job)).toMatchObject({ lease: null, run: null, backend: 'gpu-job' });
    await store.workOff();
    expect(store.living()).toHaveLength(1);
    expect((await store.record(job)).tries).toEqual(tries);
  });

  test('takes a run for dead that it may not ask after, once it should have begun', async () => {
    const job = await started(ALL);
    store.fake.inject({ operation: 'get', kind: 'refuse', status: 403, times: 1_000 });
    const before = await store.record(job);
    await store.reconcile(minutesLater(14));
    expect(await store.record(job)).toEqual(before);
    await store.reconcile(minutesLater(16));
    expect((await store.record(job)).backend).toBe('vertex');
  });

  test('takes a start for lost that it may not look for, once it would have been made', async () => {
    store = await makeRunsStore(ALL);
    store.fake.inject({ operation: 'start', kind: 'lose-reply' });
    const job = await store.submitTo('gpu-job');
    await store.workOff();
    const before = await store.record(job);
    await store.queue.delete(before.task as never);
    store.fake.inject({ operation: 'list', kind: 'refuse', status: 403, times: 1_000 });
    await store.reconcile(store.later(30_000));
    expect(await store.record(job)).toEqual(before);
    await store.reconcile(minutesLater(2));
    expect((await store.record(job)).backend).toBe('vertex');
  });

  test('gives a job whose pushed task nobody takes to the next backend, and takes that task back', async () => {
    store = await makeRunsStore([SERVICE, CLOUD_RUN_JOB]);
    const job = await store.submitTo('service');
    const { task } = await store.record(job);
    await store.reconcile(minutesLater(14));
    expect((await store.record(job)).task).toEqual(task);
    await store.reconcile(minutesLater(16));
    expect(await store.record(job)).toMatchObject({
      backend: 'gpu-job',
      routing: { because: 'service did not begin with it in time' },
    });
    expect(await store.queue.has(task as never)).toBe(false);
    await store.workOff();
    expect(store.living()).toHaveLength(1);
  });

  test('takes it back before the deadline, as long as another backend can keep that', async () => {
    store = await makeRunsStore([SERVICE, { name: 'api', kind: 'voxtral', tier: 'standard' }]);
    const job = await store.submitTo('service');
    const { options } = await store.record(job);
    const estimate = (backend: string, begins: number, done: number) => ({
      ...{ backend, expected_usd: 1, begins_in_seconds: begins, done_in_seconds: done },
      ...({ meets: 'start', shared_by: null } as const),
    });
    const asked = async (secondsAgo: number) =>
      set(job, {
        options: { ...options, tier: 'auto', deadline_seconds: 1_800 },
        requested_at: new Date(Date.now() - secondsAgo * 1_000).toISOString(),
        routing: {
          ...{ chosen: 'service', because: '', alternatives: ['api'] },
          estimates: [estimate('service', 60, 71), estimate('api', 0, 600)],
        },
      });
    await asked(900);
    await store.reconcile(minutesLater(2));
    expect((await store.record(job)).backend).toBe('service');
    // Too late for the other as well.
    await asked(1_700);
    await store.reconcile(minutesLater(2));
    expect((await store.record(job)).backend).toBe('service');
    await asked(1_100);
    await store.reconcile(minutesLater(1));
    expect((await store.record(job)).backend).toBe('service');
    await store.reconcile(minutesLater(2));
    expect(await store.record(job)).toMatchObject({ backend: 'api', task: { queue: 'api' } });
  });

  test('gives the next part of a job away as the same part', async () => {
    store = await makeRunsStore([SERVICE, CLOUD_RUN_JOB]);
    const job = await store.submitTo('service');
    await store.change(job, (record) => {
      record.tries.transcribe = { attempt: 1, part: 1 };
      record.task = taskRef(nextTask(store.backends, record, { isContinuation: true }));
    });
    await store.queue.enqueue(nextTask(store.backends, await store.record(job), { isContinuation: true }));
    await store.reconcile(minutesLater(16));
    await store.workOff();
    expect((await store.record(job)).run).toMatchObject({ backend: 'gpu-job', part: 2 });
  });

  test('leaves it in its queue where there is no other backend, or somebody works on it', async () => {
    store = await makeRunsStore([SERVICE]);
    const job = await store.submitTo('service');
    const before = await store.record(job);
    await store.reconcile(minutesLater(300));
    expect(await store.record(job)).toEqual(before);
    expect(await store.queue.has(before.task as never)).toBe(true);
  });
});

/** The same store, where something happens after a start was written down and before it is made. */
function beforeAStart(happen: () => Promise<unknown>): RunsStore {
  const gpuJob = store.runs?.get('gpu-job');
  if (gpuJob === undefined) throw new Error('there is no such backend');
  const start: typeof gpuJob.start = async (...args) => {
    await happen();
    return gpuJob.start(...args);
  };
  const slow = new Proxy(gpuJob, {
    get: (target, name) => {
      if (name === 'start') return start;
      const member = Reflect.get(target, name, target);
      return typeof member === 'function' ? member.bind(target) : member;
    },
  });
  return { ...store, runs: new Map([['gpu-job', slow]]) };
}

describe('a job whose run is pending', () => {
  test('is canceled with its run', async () => {
    const job = await started();
    expect((await cancelJob(store, job))?.status).toBe('canceled');
    await store.workOff();
    expect(store.fake.executions).toMatchObject([{ state: 'canceled' }]);
    expect((await store.record(job)).run).toBeNull();
    expect(await store.records.read(activeKey(job))).toBeUndefined();
  });

  test('is deleted with its run', async () => {
    const job = await started();
    expect(await deleteJob(store, job)).toBe(true);
    await store.workOff();
    expect(store.fake.executions).toMatchObject([{ state: 'canceled' }]);
    await store.reconcile(minutesLater(11));
    expect(await store.records.read(activeKey(job))).toBeUndefined();
  });

  test('can be canceled while it is being started', async () => {
    store = await makeRunsStore(JOB_ALONE);
    const job = await store.submitTo('gpu-job');
    // The user is faster than the answer.
    await startRun(
      beforeAStart(() => cancelJob(store, job)),
      { type: 'start-run', job, part: 1 },
    );
    expect(store.living()).toEqual([]);
    expect(await store.record(job)).toMatchObject({ status: 'canceled', run: null });
    await store.workOff();
    expect(await store.records.read(activeKey(job))).toBeUndefined();
  });

  test.each([1, 0])(
    'is stopped when it was given up while it was being started (%d refusals)',
    async (times) => {
      store = await makeRunsStore(JOB_ALONE);
      const job = await store.submitTo('gpu-job');
      const giveUp = () =>
        store.change(job, (record) => {
          record.run = { ...(record.run as Run), id: 'another' };
        });
      store.fake.inject({ operation: 'cancel', kind: 'refuse', status: 403, times });
      await startRun(beforeAStart(giveUp), { type: 'start-run', job, part: 1 });
      expect(store.living()).toHaveLength(times);
      expect((await store.record(job)).run).toMatchObject({ id: 'another', execution: null });
    },
  );

  test('can be retried after it was canceled, and then has one run', async () => {
    const job = await started();
    await cancelJob(store, job);
    await store.workOff();
    await retryJob(store, job);
    await store.workOff();
    expect(store.living()).toHaveLength(1);
    expect((await store.record(job)).run?.execution).toBe(store.living()[0]?.name);
  });

  test('is finished with although its run may not be stopped', async () => {
    const job = await started();
    store.fake.inject({ operation: 'cancel', kind: 'refuse', status: 403, times: 1_000 });
    await cancelJob(store, job);
    await store.workOff();
    expect(await store.records.read(activeKey(job))).toBeUndefined();
  });
});

/** Does `work` until it survives, dying one call later each time, before and after that call. */
async function everyDeath(
  prepare: () => Promise<JobRef>,
  work: (context: RunsStore, job: JobRef) => Promise<unknown>,
  check: (job: JobRef, where: string) => Promise<void>,
): Promise<void> {
  let deaths = 0;
  for (const when of ['before', 'after'] as const) {
    for (let at = 1; ; at++) {
      const job = await prepare();
      const mortal = dying(store, at, when);
      const error = await work(mortal, job).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      if (!mortal.hasDied()) break;
      if (error !== undefined && !(error instanceof Death)) throw error;
      deaths += 1;
      await check(job, `${when} call ${at}`);
      await store.remove();
    }
    await store.remove();
  }
  store = await makeRunsStore(JOB_ALONE);
  expect(deaths).toBeGreaterThan(5);
}

/** What the queue and reconcile do in the next minutes. */
async function minutesPass(minutes = 3): Promise<void> {
  for (let minute = 0; minute < minutes; minute++) {
    await store.workOff(minutesLater(2));
    await store.reconcile(minutesLater(2));
  }
}

const LIMITED: Backend[] = [{ ...CLOUD_RUN_JOB, max_running: 5 }];

describe('a process that dies between any two calls', () => {
  const prepare = async () => {
    store = await makeRunsStore(LIMITED);
    return store.submitTo('gpu-job');
  };
  const start = (context: RunsStore, job: JobRef) => startRun(context, { type: 'start-run', job, part: 1 });

  test('while it starts a run: there is one in the end, which the record names', async () => {
    await everyDeath(prepare, start, async (job, where) => {
      await minutesPass();
      const { run, tries } = await store.record(job);
      expect([where, store.fake.executions.length, tries.transcribe.attempt]).toEqual([where, 1, 0]);
      expect(run).toMatchObject({ state: 'started', execution: store.fake.executions[0]?.name });
    });
  }, 60_000);

  test('while it starts a run, and the task is lost with it: reconcile sees to a run', async () => {
    const takeAway = async (context: RunsStore, job: JobRef) => {
      const { task } = await store.record(job);
      await store.queue.delete(task as never);
      await start(context, job);
    };
    await everyDeath(prepare, takeAway, async (job, where) => {
      await minutesPass();
      const { run } = await store.record(job);
      expect([where, store.living().map(({ name }) => name)]).toEqual([where, [run?.execution]]);
    });
  }, 60_000);

  test('while it hands the job to the next backend: one of them has it', async () => {
    const toRefuse = async () => {
      store = await makeRunsStore([CLOUD_RUN_JOB, VERTEX]);
      store.fake.inject({ operation: 'start', kind: 'refuse', status: 429, message: 'quota' });
      return store.submitTo('gpu-job');
    };
    await everyDeath(toRefuse, start, async (job, where) => {
      await minutesPass();
      const { run } = await store.record(job);
      expect([where, store.living().map(({ name }) => name)]).toEqual([where, [run?.execution]]);
    });
  }, 60_000);

  test('while reconcile gives a late run up: one backend has the job, and the late run is stopped or ends by itself', async () => {
    const late = async () => {
      store = await makeRunsStore([CLOUD_RUN_JOB, VERTEX]);
      const job = await store.submitTo('gpu-job');
      await store.workOff();
      return job;
    };
    const giveUp = (context: RunsStore) =>
      store.reconcile({ ...context, records: agedRecords(context.records, 16 * MINUTE_MS) });
    await everyDeath(late, giveUp, async (job, where) => {
      await store.workOff();
      await store.reconcile(minutesLater(16));
      await store.workOff();
      const { run, backend } = await store.record(job);
      expect([where, backend]).toEqual([where, 'vertex']);
      expect(store.living().map(({ name }) => name)).toContain(run?.execution);
    });
  }, 60_000);

  test('while it cancels: either the job goes on with its run, or both are over', async () => {
    const pending = async () => {
      const job = await prepare();
      await store.workOff();
      return job;
    };
    await everyDeath(
      pending,
      (context, job) => cancelJob(context, job),
      async (job, where) => {
        const { status } = await store.record(job);
        await minutesPass();
        expect([where, store.living().length]).toEqual([where, status === 'canceled' ? 0 : 1]);
        const marker = await store.records.read(activeKey(job));
        expect(marker === undefined).toBe(status === 'canceled');
      },
    );
  }, 60_000);

  test('while it starts what is then canceled: nothing is left', async () => {
    await everyDeath(prepare, start, async (job, where) => {
      await cancelJob(store, job);
      await minutesPass();
      expect([where, store.living()]).toEqual([where, []]);
      expect(await store.record(job)).toMatchObject({ status: 'canceled', run: null });
      expect(await store.records.read(activeKey(job))).toBeUndefined();
    });
  }, 60_000);

  test('while it deletes: either the job is there with its run, or nothing is left', async () => {
    const pending = async () => {
      const job = await prepare();
      await store.workOff();
      return job;
    };
    await everyDeath(
      pending,
      (context, job) => deleteJob(context, job),
      async (job, where) => {
        const isThere = (await store.records.read(jobKey(job))) !== undefined;
        await minutesPass();
        await store.reconcile(minutesLater(11));
        expect([where, store.living().length]).toEqual([where, isThere ? 1 : 0]);
        if (!isThere) expect(await store.records.read(activeKey(job))).toBeUndefined();
      },
    );
  }, 60_000);

  test('while it stops a run: it is stopped, and the marker goes', async () => {
    const canceled = async () => {
      const job = await prepare();
      await store.workOff();
      await cancelJob(store, job);
      return job;
    };
    const stopAll = (context: RunsStore) => store.workOff(context);
    await everyDeath(canceled, stopAll, async (job, where) => {
      store.queue.releaseAll();
      await minutesPass();
      expect([where, store.living()]).toEqual([where, []]);
      expect(await store.records.read(activeKey(job))).toBeUndefined();
    });
  }, 60_000);
});
