import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { activeKey, type JobRef, mediaKey, newJobId } from '../core/objects.ts';
import type { Delivery } from '../core/queue/sqlite-queue.ts';
import type { StoredRecord } from '../core/records/records.ts';
import { CPU_QUEUE, reconcileTask } from '../core/tasks/task.ts';
import type { WorkerContext } from '../core/tasks/worker-context.ts';
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

/** As if nothing had been written for so long. */
function aged(ms: number): WorkerContext {
  const { records } = store;
  const older = (stored: StoredRecord): StoredRecord => ({ ...stored, ageMs: stored.ageMs + ms });
  return {
    ...store,
    records: {
      create: (...args) => records.create(...args),
      replace: (...args) => records.replace(...args),
      delete: (key) => records.delete(key),
      read: async (key) => {
        const stored = await records.read(key);
        return stored === undefined ? undefined : older(stored);
      },
      list: async (query) => {
        const page = await records.list(query);
        return { ...page, records: page.records.map(older) };
      },
    },
  };
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
  await reconcile(aged(3_600_000), never);
  expect(await store.record(job)).toEqual(before);
});

test('a job whose task is gone gets another one, under the name of the next attempt', async () => {
  const job = await store.submit();
  const lost = await loseTask(job);
  await reconcile(aged(60_000), never);
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
  await reconcile({ ...aged(60_000), queue: fresh.queue }, never);
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
  await reconcile(store, never);
  expect(take()).toBeUndefined();
  await reconcile(aged(store.timing.leaseMs + 20_000), never);
  expect(take()?.task.payload).toMatchObject({ type: 'ingest', job });
});

test('leftovers of a settled job are removed, and its marker last', async () => {
  const job = await store.submit();
  await store.change(job, (record) => {
    record.status = 'failed';
    record.objects.media = null;
  });
  await reconcile(store, never);
  expect(await store.blobs.stat(mediaKey(job))).toBeUndefined();
  expect(await store.records.read(activeKey(job))).toBeUndefined();
});

test('an upload that never became a job is swept after a day, or at the start of a sole owner', async () => {
  const upload = async () => {
    const job = { owner: 'local', id: newJobId() };
    await store.records.create(activeKey(job), {});
    await store.blobs.write(mediaKey(job), 'half', { contentType: 'audio/wav' });
    return job;
  };
  const [first, second] = [await upload(), await upload()];
  await reconcile(store, never);
  expect(await store.blobs.stat(mediaKey(first))).toBeDefined();
  await reconcile(aged(25 * 3_600_000), never);
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
  await reconcile(store, never);
  const later = reconcileTask((Math.floor(Date.now() / 60_000) + 1) * 60_000);
  expect((await store.queue.has(next)) || (await store.queue.has(later))).toBe(true);

  await store.records.delete(activeKey(job));
  const other = await makeWorkerStore();
  await reconcile({ ...store, queue: other.queue }, never);
  expect(other.queue.nextDueAt(CPU_QUEUE)).toBeUndefined();
  await other.remove();
});

test('one broken job does not keep the others from being repaired', async () => {
  const broken = { owner: 'local', id: 'tr_0' };
  await store.records.create(activeKey(broken), {});
  await store.records.create(`jobs/local/${broken.id}`, { schema: 99 });
  const job = await store.submit();
  await loseTask(job);
  await reconcile(aged(60_000), never);
  expect(take()?.task.payload).toMatchObject({ job });
});
