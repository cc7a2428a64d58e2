import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { makeWorkerStore, type WorkerStore } from '../../tests/support/worker-store.ts';
import type { Blobs } from '../blobs/blobs.ts';
import { readSpend } from '../costs/daily-spend.ts';
import { activeKey, audioKey, checkpointPartKey, type JobRef, mediaKey, transcriptKey } from '../objects.ts';
import { requestedMs } from '../routing/choose-backend.ts';
import { noteChoice } from '../routing/note-choice.ts';
import { claimJob } from './claim-job.ts';
import { deleteJob } from './delete-job.ts';
import { retryJob } from './retry-job.ts';
import { runJobTask } from './run-job-task.ts';
import { removeLeftovers, settleJob } from './settle-job.ts';

let store: WorkerStore;
let job: JobRef;
const never = new AbortController().signal;

beforeEach(async () => {
  store = await makeWorkerStore();
  job = await store.submit();
});
afterEach(() => store.remove());

async function blobKeys(): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.blobs.list('')) keys.push(key);
  return keys;
}

async function write(...keys: string[]): Promise<void> {
  for (const key of keys) await store.blobs.write(key, 'x', { contentType: 'text/plain' });
}

test('a retry while the leftovers of a canceled job are removed keeps its marker and its new audio', async () => {
  const session = await claimJob(store, job, { type: 'ingest', part: 1 }, never);
  if (session === undefined) throw new Error('not claimed');
  await write(audioKey(job, 1));
  // The retry, and the claim of its ingest, come while the store is slow to list.
  const slow: Blobs = Object.assign(Object.create(null), {
    list: async function* (prefix: string) {
      yield* store.blobs.list(prefix);
    },
    delete: async (key: string) => {
      await retryJob(store, job);
      await write(audioKey(job, 2));
      await store.blobs.delete(key);
    },
  });
  await settleJob({ ...store, blobs: slow }, session, 'canceled');
  await session.end();
  expect(await blobKeys()).toEqual([audioKey(job, 2), mediaKey(job)]);
  expect(await store.records.read(activeKey(job))).toBeDefined();
  expect((await store.record(job)).status).toBe('queued');
});

test('a retry has the time to its deadline once more, in whatever comes after it', async () => {
  await store.change(job, (record) => {
    record.status = 'canceled';
    record.created_at = record.requested_at = new Date(Date.now() - 86_400_000).toISOString();
  });
  const beforeMs = Date.now();
  await retryJob(store, job);
  expect(requestedMs(await store.record(job))).toBeGreaterThanOrEqual(beforeMs);
});

test('transcripts and checkpoints that no record names go with the settling', async () => {
  await write(transcriptKey(job, 1), transcriptKey(job, 2), checkpointPartKey(job, 1, 'transcribe', 0));
  await store.change(job, (record) => {
    record.status = 'completed';
    record.epoch = 2;
    record.objects.transcript = transcriptKey(job, 2);
  });
  await removeLeftovers(store, await store.record(job));
  expect(await blobKeys()).toEqual([mediaKey(job), transcriptKey(job, 2)]);
  expect(await store.records.read(activeKey(job))).toBeUndefined();
});

test('what a job was expected to cost stands for no longer than the job: it is deleted, or ends on one machine', async () => {
  const estimate = { expected_usd: 0.3, begins_in_seconds: 0, done_in_seconds: 9, shared_by: null };
  const routing = {
    chosen: 'standalone',
    because: 'it is the only one',
    alternatives: [],
    estimates: [{ ...estimate, backend: 'standalone', meets: 'idle' as const }],
  };
  const other = await store.submit();
  for (const one of [job, other]) {
    await store.change(one, (record) => Object.assign(record, { routing, duration_seconds: 60 }));
    await noteChoice(store, await store.record(one));
  }
  const now = Date.now();
  expect((await readSpend(store.records, now)).usd).toBeCloseTo(0.6, 9);
  await deleteJob(store, job);
  expect((await readSpend(store.records, now)).jobs.get(job.id)).toMatchObject({ usd: 0, is_final: true });
  await runJobTask(store, 'ingest', { type: 'ingest', job: other }, never, async (session) => {
    await settleJob(store, session, 'canceled');
    return { kind: 'done' };
  });
  expect((await readSpend(store.records, now)).jobs.get(other.id)).toMatchObject({ usd: 0, is_final: true });
});

test('nothing is left of a job that is deleted while a worker is at it', async () => {
  const outcome = await runJobTask(store, 'ingest', { type: 'ingest', job }, never, async (session) => {
    await deleteJob(store, job);
    await write(audioKey(job, session.epoch));
    await session.update(() => {});
    return { kind: 'done' };
  });
  expect(outcome).toEqual({ kind: 'done' });
  expect(await blobKeys()).toEqual([]);
  expect(await store.records.read(activeKey(job))).toBeUndefined();
});

test('a job that has completed stays completed, whatever goes wrong while it is cleared away', async () => {
  const broken: Blobs = Object.assign(Object.create(null), {
    // biome-ignore lint/correctness/useYield: it fails before it has anything to give
    list: async function* () {
      throw new Error('the store is away');
    },
  });
  const context = { ...store, blobs: broken };
  const outcome = await runJobTask(context, 'ingest', { type: 'ingest', job }, never, async (session) => {
    await settleJob(context, session, { transcript: transcriptKey(job, session.epoch) });
    return { kind: 'done' };
  });
  expect(outcome).toEqual({ kind: 'done' });
  expect((await store.record(job)).status).toBe('completed');
  // Reconcile finds it by this.
  expect(await store.records.read(activeKey(job))).toBeDefined();
});
