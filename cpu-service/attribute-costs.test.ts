import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Backend } from '../core/backends.ts';
import { readSpend } from '../core/costs/daily-spend.ts';
import { type Heartbeat, readInstances, SILENCE_MS } from '../core/costs/instances.ts';
import { settleCost } from '../core/costs/job-cost.ts';
import { PRICES } from '../core/costs/prices.ts';
import { instanceUsageOf, usageOf } from '../core/costs/usage.ts';
import { instanceKey, type JobRef, jobKey } from '../core/objects.ts';
import { CPU_QUEUE } from '../core/tasks/task.ts';
import { agedRecords } from '../tests/support/aged-records.ts';
import { Death, dying } from '../tests/support/dying.ts';
import { SERVICE } from '../tests/support/runs-store.ts';
import { makeWorkerStore, type WorkerStore } from '../tests/support/worker-store.ts';
import { attributeCosts } from './attribute-costs.ts';

const USD_PER_SECOND = 0.0003947;
const SERVER: Backend = { name: 'server', kind: 'server', tier: 'premium', url: 'https://gpu.example' };
const INSTANCE = { backend: SERVICE.name, id: 'gpu-1' };
const TASK = { type: 'attribute-costs', instance: INSTANCE, dueMs: 0 } as const;

let store: WorkerStore;
beforeEach(async () => {
  store = { ...(await makeWorkerStore()), backends: [SERVICE, SERVER] };
});
afterEach(() => store.remove());

/** A job that was settled after `busySeconds` on each of these instances. */
async function settledJob(busySeconds: number, ...instances: string[]): Promise<JobRef> {
  const job = await store.submitDecoded(SERVICE.name);
  await store.change(job, (record) => {
    const usage = usageOf(record, SERVICE.name);
    for (const id of instances) {
      usage.busy_seconds += busySeconds;
      instanceUsageOf(usage, id).busy_seconds = busySeconds;
    }
    record.status = 'completed';
    settleCost(record, { backends: store.backends, prices: PRICES });
  });
  return job;
}

const START = Date.UTC(2026, 10, 26);
const iso = (seconds: number) => new Date(START + seconds * 1_000).toISOString();

/** An instance of ten minutes, with these jobs and what each had of it. */
async function instance(
  jobs: [JobRef, number][],
  { id = INSTANCE.id, ...change }: Partial<Heartbeat> & { id?: string } = {},
): Promise<void> {
  const heartbeat: Heartbeat = {
    backend: SERVICE.name,
    trigger: 'push',
    started_at: iso(0),
    beat_at: iso(600),
    busy_since: null,
    idle_since: iso(30),
    ended_at: iso(600),
    is_continuation: false,
    jobs: jobs.map(([job, busy]) => ({ ...job, busy_seconds: busy, audio_seconds: 60, is_whole: true })),
    ...change,
  };
  await store.records.create(instanceKey({ backend: heartbeat.backend, id }), heartbeat);
}

const attributed = async (job: JobRef) => (await store.record(job)).cost?.attributed_usd ?? null;
/** Without ingest and operations, which are the job's own. */
async function shareOf(job: JobRef): Promise<number> {
  const { cost } = await store.record(job);
  const others = cost?.parts.filter(({ item }) => item !== 'instance') ?? [];
  return (cost?.attributed_usd ?? Number.NaN) - others.reduce((sum, { usd }) => sum + usd, 0);
}

test('an instance that has ended is shared out among its jobs, by the seconds that each had it, and forgotten', async () => {
  const jobs = [await settledJob(20, INSTANCE.id), await settledJob(60, INSTANCE.id)] as const;
  await instance([
    [jobs[0], 20],
    [jobs[1], 60],
  ]);
  expect([await attributed(jobs[0]), await attributed(jobs[1])]).toEqual([null, null]);
  expect(await attributeCosts(store, TASK)).toEqual({ kind: 'done' });
  expect(await shareOf(jobs[0])).toBeCloseTo(150 * USD_PER_SECOND, 6);
  expect(await shareOf(jobs[1])).toBeCloseTo(450 * USD_PER_SECOND, 6);
  expect(await readInstances(store.records, SERVICE.name)).toEqual([]);
});

test('whatever call it dies at, before or after, the next try comes to the same', async () => {
  let deaths = 0;
  for (const when of ['before', 'after'] as const) {
    for (let at = 1; ; at++) {
      const jobs = [await settledJob(20, INSTANCE.id), await settledJob(60, INSTANCE.id)] as const;
      // Silent, so that there is one more write.
      await instance(
        [
          [jobs[0], 20],
          [jobs[1], 60],
        ],
        { ended_at: null },
      );
      const aged = { ...store, records: agedRecords(store.records, SILENCE_MS) };
      const mortal = dying(aged, at, when);
      await attributeCosts(mortal, TASK).catch((error) => expect(error).toBeInstanceOf(Death));
      await attributeCosts(aged, TASK);
      await attributeCosts(aged, TASK);
      const shares = await Promise.all(jobs.map(shareOf));
      expect(shares.map((usd) => Math.round(usd * 1e6))).toEqual(
        [150, 450].map((seconds) => Math.round(seconds * USD_PER_SECOND * 1e6)),
      );
      expect(await readInstances(store.records, SERVICE.name)).toEqual([]);
      if (!mortal.hasDied()) break;
      deaths += 1;
    }
  }
  // A read, a freeze, a read and a write for each job, and the end, each before and after.
  expect(deaths).toBeGreaterThanOrEqual(14);
});

describe('an instance that lives', () => {
  test('is left alone, and looked at again', async () => {
    const job = await settledJob(20, INSTANCE.id);
    await instance([[job, 20]], { ended_at: null });
    await attributeCosts(store, { ...TASK, dueMs: Date.now() });
    // Delivered twice.
    await attributeCosts(store, { ...TASK, dueMs: Date.now() });
    expect(await attributed(job)).toBeNull();
    expect(await readInstances(store.records, SERVICE.name)).toHaveLength(1);
    const inMs = (store.queue.nextDueAt(CPU_QUEUE)?.getTime() ?? 0) - Date.now();
    expect(inMs).toBeGreaterThan(5 * 60_000);
    expect(inMs).toBeLessThanOrEqual(10 * 60_000);
  });

  test('and shows it while it is being taken for dead, stays alive', async () => {
    await instance([], { ended_at: null });
    const records = agedRecords(store.records, SILENCE_MS);
    const beating = {
      ...store,
      records: {
        ...records,
        replace: async (...args: Parameters<typeof records.replace>) => {
          const stored = await store.records.read(args[0]);
          await store.records.replace(args[0], stored?.value, stored?.generation ?? '');
          return records.replace(...args);
        },
      },
    };
    await attributeCosts(beating, TASK);
    expect(await readInstances(store.records, SERVICE.name)).toMatchObject([{ ended_at: null }]);
  });
});

test('a job that two instances have done has the share of both, once the second is known', async () => {
  const job = await settledJob(20, 'gpu-1', 'gpu-2');
  await instance([[job, 20]]);
  await instance([[job, 20]], { id: 'gpu-2', ended_at: iso(300) });
  await attributeCosts(store, TASK);
  expect(await attributed(job)).toBeNull();
  await attributeCosts(store, { ...TASK, instance: { ...INSTANCE, id: 'gpu-2' } });
  expect(await shareOf(job)).toBeCloseTo(900 * USD_PER_SECOND, 6);
});

test('an instance that died before it could say that it had the job is not waited for', async () => {
  const job = await settledJob(20, 'gpu-1', 'gpu-0');
  await instance([[job, 20]]);
  await attributeCosts(store, TASK);
  expect(await shareOf(job)).toBeCloseTo(600 * USD_PER_SECOND, 6);
});

test('a job that was deleted, or runs again, stands in the way of nobody', async () => {
  const jobs = [
    await settledJob(20, INSTANCE.id),
    await settledJob(20, INSTANCE.id),
    await settledJob(20, INSTANCE.id),
  ] as const;
  await instance(jobs.map((job) => [job, 20]));
  await store.records.delete(jobKey(jobs[0]));
  await store.change(jobs[1], (record) => {
    record.status = 'processing';
  });
  await attributeCosts(store, TASK);
  expect(await shareOf(jobs[2])).toBeCloseTo(200 * USD_PER_SECOND, 6);
  const running = await store.record(jobs[1]);
  expect(running.status).toBe('processing');
  expect(running.usage[0]?.instances[0]?.attributed_usd).toBeCloseTo(200 * USD_PER_SECOND, 6);
  await store.change(jobs[1], (record) => {
    record.status = 'failed';
    settleCost(record, { backends: store.backends, prices: PRICES });
  });
  expect(await shareOf(jobs[1])).toBeCloseTo(200 * USD_PER_SECOND, 6);
});

test('of a server the rent of the time is shared', async () => {
  const job = await settledJob(20);
  await instance([[job, 20]], { backend: SERVER.name, ended_at: iso(24 * 3_600) });
  await attributeCosts(store, { ...TASK, instance: { backend: SERVER.name, id: INSTANCE.id } });
  expect(
    (await store.record(job)).usage.find(({ backend }) => backend === SERVER.name)?.instances,
  ).toMatchObject([{ id: INSTANCE.id, attributed_usd: expect.closeTo(215 / 30, 6) }]);
  // It is paid anyway, and so is not what the daily limit is about.
  expect((await readSpend(store.records, Date.now())).usd).toBeLessThan(1);
});
