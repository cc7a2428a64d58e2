import type { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { agedRecords } from '../../tests/support/aged-records.ts';
import type { Backend } from '../backends.ts';
import { noteSpend } from '../costs/daily-spend.ts';
import type { Heartbeat } from '../costs/instances.ts';
import { PRICES } from '../costs/prices.ts';
import { instanceKey, newJobId } from '../objects.ts';
import type { Records } from '../records/records.ts';
import { SqliteRecords } from '../records/sqlite-records.ts';
import { openDatabase } from '../sqlite.ts';
import { chooseCheapest } from './estimate.ts';
import { forgetRoutingState, readRoutingState } from './read-state.ts';

const SERVICE: Backend = {
  name: 'service',
  kind: 'cloud-run-service',
  tier: 'premium',
  url: 'https://gpu.example',
  max_running: 3,
  expected: { realtime_factor: 20, cold_start_seconds: 30 },
};
const API: Backend = { name: 'api', kind: 'voxtral', tier: 'standard' };
const NOW = Date.UTC(2026, 10, 26, 0, 30);
const HOUR_MS = 3_600_000;

let database: DatabaseSync;
let records: SqliteRecords;
beforeEach(() => {
  database = openDatabase(':memory:');
  records = new SqliteRecords(database);
});
afterEach(() => database.close());

const ago = (seconds: number) => new Date(NOW - seconds * 1_000).toISOString();
async function beat(id: string, heartbeat: Partial<Heartbeat>): Promise<void> {
  await records.create(instanceKey({ backend: 'service', id }), {
    backend: 'service',
    trigger: 'push',
    started_at: ago(3_600),
    beat_at: ago(0),
    busy_since: null,
    idle_since: null,
    ended_at: null,
    jobs: [],
    ...heartbeat,
  });
}
async function given(backend: string, secondsAgo: number, audioSeconds: number, isFinal = false) {
  const id = newJobId(NOW - secondsAgo * 1_000);
  await noteSpend(records, id, { usd: 1, audio_seconds: audioSeconds, backend, is_final: isFinal });
  return id;
}
const read = async (ageMs = 0, except?: string) => {
  const how = { prices: PRICES, except, nowMs: NOW };
  const { candidates, demand } = await readRoutingState(agedRecords(records, ageMs), [SERVICE, API], how);
  return { demand, service: candidates[0], api: candidates[1] };
};
/** The store's clock goes on while a test runs. */
const rounded = (seconds: readonly number[] = []) => seconds.map((one) => Math.round(one / 5) * 5);

test('at rest there is nothing', async () => {
  const nothing = { busy: [], idle: [], waitingSeconds: 0 };
  const { demand, service, api } = await read();
  expect([demand, service?.state, api?.state]).toEqual([[], nothing, nothing]);
});

test('an instance is warm that gave a sign of life lately and has no job', async () => {
  await beat('warm', { idle_since: ago(40) });
  await beat('ended', { ended_at: ago(1), idle_since: ago(1) });
  expect(rounded((await read()).service?.state.idle)).toEqual([40]);
  expect(rounded((await read(100_000)).service?.state.idle)).toEqual([140]);
  expect((await read(6 * 60_000)).service?.state.idle).toEqual([]);
});

test('jobs that have not ended are at work, start instances, and wait for what there is no room for', async () => {
  await beat('busy', { busy_since: ago(20) });
  await beat('warm', { idle_since: ago(40) });
  // Each is 35 s of work.
  for (const seconds of [20, 4, 3, 2]) await given('service', seconds, 600);
  await given('service', 900, 600, true);
  await given('api', 3, 600);
  const { service, api } = await read();
  expect(rounded(service?.state.busy)).toEqual([15, 35, 65]);
  expect(service?.state).toMatchObject({ idle: [], waitingSeconds: 35 });
  expect(rounded(api?.state.busy)).toEqual([10]);
});

test('a job of yesterday that was retried is work since then, and not when it is the one to be sent', async () => {
  const id = newJobId(NOW - 14 * HOUR_MS);
  const note = { usd: 1, audio_seconds: 600, backend: 'service' };
  await noteSpend(records, id, { ...note, is_final: true });
  const retry = { id, retry: 2, routedMs: NOW - 20_000 };
  await noteSpend(records, retry, { ...note, is_final: false });
  expect((await read()).service?.state.busy).toHaveLength(1);
  expect((await read(0, id)).service?.state.busy).toEqual([]);
});

test('of runs, which leave a sign each, some say how fast they were', async () => {
  const job = 'projects/p/locations/l/jobs/j';
  const runs: Backend = { name: 'service', kind: 'cloud-run-job', tier: 'premium', job };
  const jobs = [{ owner: 'a', id: 'b', busy_seconds: 10, audio_seconds: 300, is_whole: true }];
  for (let i = 0; i < 101; i++) await beat(`run-${i}`, { trigger: 'once', ended_at: ago(60), jobs });
  let lists = 0;
  const counting: Records = {
    ...agedRecords(records, 0),
    list: (query) => {
      if (query.prefix.startsWith('instances/')) lists += 1;
      return records.list(query);
    },
  };
  const how = { prices: PRICES, except: undefined, nowMs: NOW };
  const { candidates } = await readRoutingState(counting, [runs], how);
  expect([lists, candidates[0]?.platform]).toMatchObject([1, { realtimeFactor: 30 }]);
});

test('what a backend was given half a day ago is no work any more', async () => {
  await given('service', 13 * 3_600, 600);
  expect((await read()).service?.state.busy).toEqual([]);
});

test('what instances have done says how fast they are, else BACKENDS does', async () => {
  expect((await read()).service?.platform).toMatchObject({
    realtimeFactor: 20,
    coldStartSeconds: 30,
    maxInstances: 3,
  });
  const jobs = [
    { owner: 'a', id: 'b', busy_seconds: 50, audio_seconds: 2_000, is_whole: true },
    { owner: 'a', id: 'c', busy_seconds: 50, audio_seconds: 1_000, is_whole: true },
    // It has just begun, or was broken off.
    { owner: 'a', id: 'd', busy_seconds: 1, audio_seconds: 7_200, is_whole: false },
  ];
  await beat('done', { ended_at: ago(60), jobs });
  expect((await read()).service?.platform).toMatchObject({ realtimeFactor: 30, overheadSeconds: 0 });
});

test('an instance that is always there costs nothing more, and flex-start may take as long as it may look', async () => {
  const kept: Backend = { ...SERVICE, min_instances: 1 };
  const flex = (maxWaitDuration: string): Backend => ({
    ...{ name: 'flex', kind: 'vertex-job', tier: 'premium', job: 'projects/p/locations/l' },
    spec: { scheduling: { strategy: 'FLEX_START', maxWaitDuration } },
  });
  await beat('warm', { idle_since: ago(3_500) });
  const how = { prices: PRICES, except: undefined, nowMs: NOW };
  const { candidates, demand } = await readRoutingState(records, [kept, API, flex('7200s')], how);
  const { estimates } = chooseCheapest(candidates, demand, { audioSeconds: 600, secondsLeft: null });
  expect(estimates[0]).toMatchObject({ expectedUsd: 0, meets: 'idle' });
  expect(estimates[2]?.beginsInSeconds).toBe(7_260);
  const endless = await readRoutingState(records, [flex('0s')], how);
  expect(endless.candidates[0]?.platform).toMatchObject({ provisioningSeconds: 7 * 24 * 3_600 });
});

test('what was read a moment ago is read again only by whoever needs it newer', async () => {
  await beat('warm', { idle_since: ago(40) });
  let lists = 0;
  const counting: Records = {
    ...agedRecords(records, 0),
    list: (query) => {
      lists += 1;
      return records.list(query);
    },
  };
  const readAs = (maxAgeMs: number) =>
    readRoutingState(counting, [SERVICE, API], { prices: PRICES, except: undefined, nowMs: NOW, maxAgeMs });
  const first = await readAs(60_000);
  expect(lists).toBe(3);
  const again = await readAs(60_000);
  expect(lists).toBe(3);
  expect(rounded(again.candidates[0]?.state.idle)).toEqual(rounded(first.candidates[0]?.state.idle));
  await readAs(0);
  expect(lists).toBe(6);
  forgetRoutingState(counting);
  await readAs(60_000);
  expect(lists).toBe(9);
});

test('demand is what came today and yesterday, the newest first, without the job itself', async () => {
  await given('service', 2 * 3_600, 200, true);
  await given('api', 60, 100);
  await given('api', 2.1 * 24 * 3_600, 300, true);
  // It failed before anybody knew its length.
  await given('api', 30, 0, true);
  const own = await given('service', 5, 50);
  expect((await read(0, own)).demand).toEqual([
    { agoSeconds: 60, audioSeconds: 100 },
    { agoSeconds: (2 * HOUR_MS) / 1_000, audioSeconds: 200 },
  ]);
});
