import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { waitFor } from '../../tests/support/wait-for.ts';
import { makeWorkerStore, type WorkerStore } from '../../tests/support/worker-store.ts';
import { checkpointKey, type JobRef, jobKey, transcriptKey } from '../objects.ts';
import { ServiceError } from '../problem.ts';
import type { Delivery } from '../queue/sqlite-queue.ts';
import type { JobSession } from '../tasks/job-session.ts';
import type { Outcome } from '../tasks/outcome.ts';
import { runJobTask } from '../tasks/run-job-task.ts';
import { settleJob } from '../tasks/settle-job.ts';
import { CPU_QUEUE } from '../tasks/task.ts';
import type { WorkerContext } from '../tasks/worker-context.ts';
import { RunOnce } from './run-once.ts';

let store: WorkerStore;
let job: JobRef;
beforeEach(async () => {
  store = await makeWorkerStore();
  store.backends = [
    { name: 'job', kind: 'cloud-run-job', tier: 'premium', job: 'projects/p/locations/l/jobs/j' },
  ];
  job = await store.submitDecoded('job');
  await giveRun();
});
afterEach(() => store.remove());

/** As cpu-service does before it starts one. */
async function giveRun(): Promise<void> {
  await store.change(job, (record) => {
    record.run = {
      backend: 'job',
      id: 'a',
      part: 1,
      state: 'started',
      execution: 'x',
      started_at: record.created_at,
    };
  });
}

function start(
  work: (session: JobSession) => Promise<Outcome>,
  { part = 1, run = 'a', context = store }: { part?: number; run?: string; context?: WorkerContext } = {},
): RunOnce {
  const task = { type: 'transcribe', job, part, run } as const;
  return new RunOnce({
    context,
    task,
    handle: (payload, { signal }) => runJobTask(context, 'transcribe', payload, signal, work),
  });
}

const waiting = (): Delivery | undefined => store.queue.take(CPU_QUEUE, 60_000);

async function fail(): Promise<never> {
  throw new ServiceError('sidecar-failed', 'It stopped.');
}

/** Works until its signal aborts. */
function workOn(session: JobSession): Promise<never> {
  return new Promise((_, reject) => {
    session.signal.addEventListener('abort', () => reject(session.signal.reason), { once: true });
  });
}

async function complete(session: JobSession): Promise<Outcome> {
  const key = transcriptKey(session.job, session.epoch);
  await store.blobs.write(key, '{}', { contentType: 'application/json' });
  await settleJob(store, session, { transcript: key });
  return { kind: 'done' };
}

test('a task that is done ends the process, and nothing of a run is left to stop', async () => {
  expect(await start(complete).finished).toBe(0);
  expect(await store.record(job)).toMatchObject({ status: 'completed', run: null, task: null });
  expect(waiting()).toBeUndefined();
});

test.each([
  ['is with another run', 'b'],
  ['was given up', null],
])('a run whose job %s finds nothing to do, and leaves the record as it is', async (_, id) => {
  await store.change(job, (record) => {
    record.run = record.run && id !== null ? { ...record.run, id } : null;
  });
  const before = await store.record(job);
  expect(await start(complete).finished).toBe(0);
  expect(await store.record(job)).toEqual(before);
  expect(waiting()).toBeUndefined();
});

test('a failure that is recorded in the job is a success of the process', async () => {
  const failing = start(async () => {
    throw new ServiceError('media-gone', 'It is gone.');
  });
  expect(await failing.finished).toBe(0);
  expect((await store.record(job)).status).toBe('failed');
  expect(waiting()).toBeUndefined();
});

test('a failed attempt puts the next one on the queue, after a while, as another run', async () => {
  expect(await start(fail).finished).toBe(0);
  const record = await store.record(job);
  expect(record).toMatchObject({ status: 'processing', lease: null, run: null });
  expect(record.tries.transcribe).toEqual({ attempt: 1, part: 1 });
  expect(record.task).toMatchObject({ queue: CPU_QUEUE });
  expect(await store.queue.has(record.task as never)).toBe(true);
  expect(waiting()).toBeUndefined();
  const dueMs = (store.queue.nextDueAt(CPU_QUEUE) as Date).getTime() - Date.now();
  expect(dueMs).toBeGreaterThan(5_000);
  expect(record.task?.name).toContain(`${job.id}-start-run-a2-p1-h1`);
});

test('after the last attempt there is no other', async () => {
  for (let attempt = 0; attempt < 5; attempt++) {
    await giveRun();
    expect(await start(fail).finished).toBe(0);
  }
  expect((await store.record(job)).status).toBe('failed');
});

test('asked to stop, it gives the job back and puts it on the queue at once, without counting', async () => {
  const run = start(workOn);
  await waitFor('the claim', async () => (await store.record(job)).lease !== null);
  await run.stop(5_000);
  expect(await run.finished).toBe(0);
  expect((await store.record(job)).tries.transcribe.attempt).toBe(0);
  expect(waiting()?.task.payload).toEqual({
    type: 'start-run',
    job,
    part: 1,
  });
});

test('what took too long goes on in another run, as the next part', async () => {
  const context = { ...store, callLimitMs: 50 };
  expect(await start(workOn, { context }).finished).toBe(0);
  expect(waiting()?.task.payload).toMatchObject({ type: 'start-run', part: 2 });
});

test('a part that was interrupted is begun again as the same part', async () => {
  await store.change(job, (record) => {
    record.tries.transcribe = { attempt: 1, part: 1 };
    record.checkpoints.speech = checkpointKey(job, 1, 'detect-speech');
  });
  const run = start(workOn, { part: 2 });
  await waitFor('the claim', async () => (await store.record(job)).lease !== null);
  await run.stop(5_000);
  expect((await store.record(job)).tries.transcribe).toEqual({ attempt: 1, part: 1 });
  expect(waiting()?.task.payload).toMatchObject({ part: 2 });
});

test('a job that another worker has, that has ended or is gone is nothing to do', async () => {
  await store.change(job, (record) => {
    record.lease = { holder: 'worker-2', epoch: 9 };
    record.epoch = 9;
  });
  expect(await start(fail).finished).toBe(0);
  await store.change(job, (record) => {
    record.status = 'canceled';
    record.lease = null;
  });
  expect(await start(fail).finished).toBe(0);
  await store.records.delete(jobKey(job));
  expect(await start(fail).finished).toBe(0);
  expect(waiting()).toBeUndefined();
});

test('the exit code is 1 only when nothing could be recorded', async () => {
  const records = { ...store.records, read: () => Promise.reject(new Error('no answer')) };
  expect(await start(fail, { context: { ...store, records: records as never } }).finished).toBe(1);
});
