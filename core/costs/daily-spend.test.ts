import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { agedRecords } from '../../tests/support/aged-records.ts';
import { makeWorkerStore, type WorkerStore } from '../../tests/support/worker-store.ts';
import { newJobId } from '../objects.ts';
import { RecordConflict } from '../records/records.ts';
import { noteSpend, readNote, readSpend } from './daily-spend.ts';

const NOON = Date.UTC(2026, 10, 26, 12);
const DAY_MS = 24 * 3_600_000;
const expected = { usd: 0.2, audio_seconds: 600, backend: 'gpu', is_final: false };
const real = { ...expected, usd: 0.15, is_final: true };

let store: WorkerStore;
beforeEach(async () => {
  store = await makeWorkerStore();
});
afterEach(() => store.remove());

test('what a job cost takes the place of what it was expected to cost, once, in whatever order and however often', async () => {
  const job = newJobId(NOON);
  await noteSpend(store.records, job, expected);
  expect((await readSpend(store.records, NOON)).usd).toBe(0.2);
  for (const note of [real, real, expected, real]) await noteSpend(store.records, job, note);
  expect(await readSpend(store.records, NOON)).toEqual({ usd: 0.15, jobs: new Map([[job, real]]) });
});

test('of jobs that are noted at once none is lost, and each belongs to the day that it was submitted on', async () => {
  const today = Array.from({ length: 40 }, (_, i) => newJobId(NOON + i));
  const yesterday = newJobId(NOON - DAY_MS);
  await Promise.all([yesterday, ...today].map((job) => noteSpend(store.records, job, real)));
  const { usd, jobs } = await readSpend(store.records, NOON);
  expect(usd).toBeCloseTo(40 * 0.15, 9);
  expect([...jobs.keys()].toSorted()).toEqual(today.toSorted());
  expect([...(await readSpend(store.records, NOON - DAY_MS)).jobs.keys()]).toEqual([yesterday]);
  expect((await readSpend(store.records, NOON + DAY_MS)).usd).toBe(0);
});

test('a retry is noted by itself, on the day that it was made on', async () => {
  const id = newJobId(NOON - DAY_MS);
  await noteSpend(store.records, id, real);
  const retry = { id, retry: 2, routedMs: NOON };
  await noteSpend(store.records, retry, expected);
  const { usd, jobs } = await readSpend(store.records, NOON);
  expect(usd).toBe(0.2);
  expect([...jobs].map(([name, note]) => readNote(name, note))).toEqual([{ id, routedMs: NOON }]);
  await noteSpend(store.records, retry, real);
  expect((await readSpend(store.records, NOON)).usd).toBe(0.15);
  expect((await readSpend(store.records, NOON - DAY_MS)).usd).toBe(0.15);
});

test('whoever finds the record changed each time gives up, and does not hold up the job', async () => {
  const busy = {
    ...agedRecords(store.records, 0),
    create: () => Promise.reject(new RecordConflict('spend')),
  };
  await expect(noteSpend(busy, newJobId(NOON), real)).rejects.toBeInstanceOf(RecordConflict);
});

test('a record that nobody can read stands in the way of no job', async () => {
  for (let shard = 0; shard < 8; shard++) {
    await store.records.create(`spend/2026-11-26/${shard}`, { jobs: 'none' });
  }
  await noteSpend(store.records, newJobId(NOON), real);
  expect((await readSpend(store.records, NOON)).usd).toBe(0.15);
});
