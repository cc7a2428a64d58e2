import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { activeKey, type JobRef, mediaKey, newJobId } from '../core/objects.ts';
import type { Delivery } from '../core/queue/sqlite-queue.ts';
import { CPU_QUEUE, reconcileTask } from '../core/tasks/task.ts';
import type { WorkerContext } from '../core/tasks/worker-context.ts';
import { agedRecords } from '../tests/support/aged-records.ts';
import { makeWorkerStore, type WorkerStore } from '../tests/support/worker-store.ts';
import { reconcile, sweepUnfinishedUploads } from './reconcile.ts';

let store: WorkerStore;
const never = new AbortController().signal;
beforeEach(async () => {
  store = await makeWorkerStore();
});
afterEach(() => store.remove());

function take(): Delivery | undefined {
  return store.queue.take(CPU_QUEUE, 60_000);
}

function aged(ms: number): WorkerContext {
  return { ...store, records: agedRecords(store.records, ms) };
}

/** The task was delivered, and nobody remembers it. */
async function loseTask(job: JobRef): Promise<string> {
  const delivery = take();
  store.queue.acknowledge(delivery?.receipt as string);
  expect(delivery?.task.payload.job).toEqual(job);
  return delivery?.task.name as string;
}

test('a job whose task waits is left alone', async () => {
  const job = await store.submit();
  const before = await store.record(job);
  await reconcile(aged(3_600_000), { type: 'reconcile' }, never);
  expect(await store.record(job)).toEqual(before);
});

test('a job whose task is gone gets another one, under the name of the next attempt', async () => {
  const job = await store.submit();
  const lost = await loseTask(job);
  await reconcile(aged(60_000), { type: 'reconcile' }, never);
  const delivery = take();
  expect(delivery?.task.payload).toMatchObject({ type: 'ingest', job });
  expect(delivery?.task.name).not.toBe(lost);
  expect((await store.record(job)).task?.name).toBe(delivery?.task.name);
});

test('a job that crashed between its record and its task gets the task it names', async () => {
  const job = await store.submit();
  const name = (await store.record(job)).task?.name;
  // As if it had never been enqueued: no tombstone either.
  const fresh = await makeWorkerStore();
  await reconcile({ ...aged(60_000), queue: fresh.queue }, { type: 'reconcile' }, never);
  expect(fresh.queue.take(CPU_QUEUE, 60_000)?.task.name).toBe(name);
  expect((await store.record(job)).tries.ingest.attempt).toBe(0);
  await fresh.remove();
});

test('a job whose worker died gets a task; one whose worker lives does not', async () => {
  const job = await store.submit();
  await loseTask(job);
  await store.change(job, (record) => {
    record.status = 'processing';
    record.epoch = 1;
    record.tries.ingest = { attempt: 1, part: 1 };
    record.lease = { holder: 'worker-1', epoch: 1 };
  });
  await reconcile(store, { type: 'reconcile' }, never);
  expect(take()).toBeUndefined();
  await reconcile(aged(store.timing.leaseMs + 20_000), { type: 'reconcile' }, never);
  expect(take()?.task.payload).toMatchObject({ type: 'ingest', job });
});

test('leftovers of a settled job are removed, and its marker last', async () => {
  const job = await store.submit();
  await store.change(job, (record) => {
    record.status = 'failed';
    record.objects.media = null;
  });
  await reconcile(store, { type: 'reconcile' }, never);
  expect(await store.blobs.stat(mediaKey(job))).toBeUndefined();
  expect(await store.records.read(activeKey(job))).toBeUndefined();
});

test('an upload that never became a job is swept after a while, or at the start of a sole owner', async () => {
  const upload = async () => {
    const job = { owner: 'local', id: newJobId() };
    await store.records.create(activeKey(job), {});
    await store.blobs.write(mediaKey(job), 'half', { contentType: 'audio/wav' });
    return job;
  };
  const [first, second] = [await upload(), await upload()];
  await reconcile(store, { type: 'reconcile' }, never);
  expect(await store.blobs.stat(mediaKey(first))).toBeDefined();
  await reconcile(aged(11 * 60_000), { type: 'reconcile' }, never);
  expect(await store.blobs.stat(mediaKey(first))).toBeUndefined();
  const third = await upload();
  await sweepUnfinishedUploads(store);
  for (const job of [second, third]) {
    expect(await store.blobs.stat(mediaKey(job))).toBeUndefined();
    expect(await store.records.read(activeKey(job))).toBeUndefined();
  }
});

test('it comes back in the next minute while there is a marker, and not when there is none', async () => {
  const job = await store.submit();
  const next = reconcileTask((Math.floor(Date.now() / 60_000) + 1) * 60_000);
  await reconcile(store, { type: 'reconcile' }, never);
  const later = reconcileTask((Math.floor(Date.now() / 60_000) + 1) * 60_000);
  expect((await store.queue.has(next)) || (await store.queue.has(later))).toBe(true);

  await store.records.delete(activeKey(job));
  const other = await makeWorkerStore();
  await reconcile({ ...store, queue: other.queue }, { type: 'reconcile' }, never);
  expect(other.queue.nextDueAt(CPU_QUEUE)).toBeUndefined();
  await other.remove();
});

test('a clock that is behind does not end the chain', async () => {
  await store.submit();
  // The task of a minute that is still to come here.
  const dueMs = (Math.floor(Date.now() / 60_000) + 2) * 60_000;
  await store.queue.enqueue(reconcileTask(dueMs));
  await reconcile(store, { type: 'reconcile', dueMs }, never);
  expect(await store.queue.has(reconcileTask(dueMs + 60_000))).toBe(true);
});

test('one broken job does not keep the others from being repaired', async () => {
  const broken = { owner: 'local', id: 'tr_0' };
  await store.records.create(activeKey(broken), {});
  await store.records.create(`jobs/local/${broken.id}`, { schema: 99 });
  const job = await store.submit();
  await loseTask(job);
  await reconcile(aged(60_000), { type: 'reconcile' }, never);
  expect(take()?.task.payload).toMatchObject({ job });
});
