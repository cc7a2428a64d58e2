import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { attributeCosts } from '../../cpu-service/attribute-costs.ts';
import { reconcile } from '../../cpu-service/reconcile.ts';
import { agedRecords } from '../../tests/support/aged-records.ts';
import { SERVICE } from '../../tests/support/runs-store.ts';
import { waitFor } from '../../tests/support/wait-for.ts';
import { makeWorkerStore, type WorkerStore } from '../../tests/support/worker-store.ts';
import { createLog } from '../log.ts';
import { activeKey, instanceKey, newJobId, transcriptKey } from '../objects.ts';
import { retryJob } from '../tasks/retry-job.ts';
import { runJobTask } from '../tasks/run-job-task.ts';
import { settleJob } from '../tasks/settle-job.ts';
import { CPU_QUEUE } from '../tasks/task.ts';
import { readSpend } from './daily-spend.ts';
import { InstanceHeartbeat, type InstanceHeartbeatOptions } from './instance-heartbeat.ts';
import { readInstances } from './instances.ts';

const never = new AbortController().signal;
const USD_PER_SECOND = 0.0003947;

let store: WorkerStore;
let beating: InstanceHeartbeat[];
beforeEach(async () => {
  store = { ...(await makeWorkerStore()), backends: [SERVICE] };
  beating = [];
});
afterEach(async () => {
  for (const heartbeat of beating) await heartbeat.stop(1_000);
  await store.remove();
});

function start(options: Partial<InstanceHeartbeatOptions> = {}): InstanceHeartbeat {
  const heartbeat = new InstanceHeartbeat({
    ...store,
    backend: SERVICE.name,
    id: 'gpu-1',
    trigger: 'push',
    attributeEveryMs: 600_000,
    ...options,
  });
  heartbeat.start();
  beating.push(heartbeat);
  return heartbeat;
}

const instances = () => readInstances(store.records, SERVICE.name);
const shown = (what: string, is: (found: Awaited<ReturnType<typeof instances>>) => boolean) =>
  waitFor(what, async () => {
    const found = await instances();
    return is(found) ? found : undefined;
  });
const aJob = () => ({ owner: 'local', id: newJobId() });
const FROM = { queuedAtMs: Date.now(), audioSeconds: 60 };

test('shows when it started, what it has, what it had, and that it has ended', async () => {
  const heartbeat = start();
  const [idle] = await shown('it', ([one]) => one !== undefined);
  expect(idle).toMatchObject({
    id: 'gpu-1',
    busy_since: null,
    idle_since: idle?.started_at,
    ended_at: null,
    jobs: [],
  });
  // Whoever shares out its cost looks for it by itself.
  expect(store.queue.nextDueAt(CPU_QUEUE)?.getTime()).toBeGreaterThan(Date.now() + 500_000);
  const job = aJob();
  const turn = heartbeat.begin(job, FROM);
  expect(turn.id).toBe('gpu-1');
  const [busy] = await shown('the job', ([one]) => one?.busy_since !== null);
  expect(busy).toMatchObject({ idle_since: null, jobs: [{ ...job, audio_seconds: 60 }] });
  turn.end();
  const [after] = await shown('its end', ([one]) => one?.idle_since !== null);
  expect(after?.jobs[0]?.busy_seconds).toBeGreaterThan(0);
  await heartbeat.stop(1_000);
  expect(await instances()).toMatchObject([{ ended_at: expect.any(String), jobs: after?.jobs }]);
});

test('only the first job was waited with for the instance, and for no longer than it waited itself', () => {
  const waited = (queuedAtMs: number, trigger: 'push' | 'once' = 'push') =>
    start({ trigger, id: `gpu-${queuedAtMs}-${trigger}` }).begin(aJob(), { queuedAtMs, audioSeconds: 60 })
      .coldStartSeconds;
  const sinceStart = performance.now() / 1_000;
  expect(waited(0)).toBeGreaterThanOrEqual(sinceStart);
  expect(waited(Date.now() + 60_000)).toBe(0);
  expect(waited(Date.now() + 60_001, 'once')).toBeGreaterThanOrEqual(sinceStart);
  const loaded = start({ id: 'gpu-3' });
  loaded.ready();
  const readyAfter = performance.now() / 1_000;
  while (performance.now() / 1_000 < readyAfter + 0.02);
  expect(loaded.begin(aJob(), { ...FROM, queuedAtMs: 0 }).coldStartSeconds).toBeLessThanOrEqual(readyAfter);
  const heartbeat = start({ id: 'gpu-2' });
  heartbeat.begin(aJob(), { ...FROM, queuedAtMs: 0 }).end();
  expect(heartbeat.begin(aJob(), { ...FROM, queuedAtMs: 0 }).coldStartSeconds).toBe(0);
});

test('a write that fails is a warning, and the next one makes up for it', async () => {
  const lines: string[] = [];
  const log = createLog('test', { destination: { write: (line) => void lines.push(line) } });
  let isBroken = true;
  const broken = {
    ...agedRecords(store.records, 0),
    create: async (...args: Parameters<typeof store.records.create>) => {
      if (isBroken) throw new Error('the store is away');
      return store.records.create(...args);
    },
  };
  const heartbeat = start({ records: broken, log, beatMs: 20 });
  const job = aJob();
  heartbeat.begin(job, FROM).end();
  await waitFor('a warning', () => lines.some((line) => line.includes('the heartbeat could not be written')));
  isBroken = false;
  const [found] = await shown('it', ([one]) => one !== undefined);
  expect(found?.jobs).toMatchObject([job]);
});

test('one that was taken for dead goes on as another, with what was not shared out yet', async () => {
  const heartbeat = start({ beatMs: 20 });
  const turn = heartbeat.begin(aJob(), FROM);
  const [living] = await shown('the job', ([one]) => one?.jobs.length === 1);
  await store.records.delete(instanceKey({ backend: SERVICE.name, id: 'gpu-1' }));
  const [risen] = await shown('the other', ([one]) => one?.id === 'gpu-1-w2');
  expect(risen).toMatchObject({ is_continuation: true, jobs: [{ id: living?.jobs[0]?.id }] });
  // It began where the dead one had shown itself last.
  expect(Date.parse(risen?.started_at ?? '')).toBeGreaterThanOrEqual(Date.parse(living?.beat_at ?? ''));
  turn.end();
  await heartbeat.stop(1_000);
  const [ended] = await instances();
  const lived = (Date.parse(ended?.ended_at ?? '') - Date.parse(ended?.started_at ?? '')) / 1_000;
  expect(ended?.jobs[0]?.busy_seconds).toBeLessThanOrEqual(lived + 0.01);
});

test('one that never ends is a new one after so many jobs, and none of them is in two', async () => {
  const heartbeat = start({ windowJobs: 2 });
  const jobs = Array.from({ length: 5 }, aJob);
  for (const job of jobs) heartbeat.begin(job, FROM).end();
  await heartbeat.stop(1_000);
  const found = await instances();
  expect(found.map(({ id }) => id)).toEqual(['gpu-1', 'gpu-1-w2', 'gpu-1-w3']);
  expect(found.every(({ ended_at }) => ended_at !== null)).toBe(true);
  expect(found.flatMap(({ jobs: ones }) => ones.map(({ id }) => id))).toEqual(jobs.map(({ id }) => id));
  expect(found[1]?.started_at).toBe(found[0]?.ended_at);
});

describe('a job that is worked on', () => {
  const work = async (
    heartbeat: InstanceHeartbeat | undefined,
    job: Awaited<ReturnType<typeof store.submitDecoded>>,
    end: 'settle' | 'fail',
    ms: number,
  ) => {
    const worker = { ...store, hasGpu: true, ...(heartbeat !== undefined && { instance: heartbeat }) };
    const startMs = performance.now();
    await runJobTask(worker, 'transcribe', { type: 'transcribe', job }, never, async (session) => {
      await sleep(ms);
      if (end === 'fail') throw new Error('broken');
      await settleJob(worker, session, { transcript: transcriptKey(job, session.epoch) });
      return { kind: 'done' };
    });
    return (performance.now() - startMs) / 1_000;
  };

  test('has what it used in its record, what it added as its cost, and then its share of the instance', async () => {
    const heartbeat = start();
    const job = await store.submitDecoded(SERVICE.name);
    const first = await work(heartbeat, job, 'fail', 150);
    const second = await work(heartbeat, job, 'settle', 150);
    const record = await store.record(job);
    const usage = record.usage.find(({ backend }) => backend === SERVICE.name);
    expect(usage?.busy_seconds).toBeGreaterThanOrEqual(0.29);
    expect(usage?.busy_seconds).toBeLessThanOrEqual(first + second);
    expect(record.cost?.gpu_seconds).toBe(usage?.gpu_seconds);
    expect(usage?.gpu_seconds).toBe(usage?.busy_seconds);
    const seconds = (usage?.busy_seconds ?? 0) + (usage?.cold_start_seconds ?? 0);
    const part = record.cost?.parts.find(({ item }) => item === 'instance');
    expect(part?.usd).toBeCloseTo(seconds * USD_PER_SECOND, 6);
    expect(record.cost?.attributed_usd).toBeNull();
    expect(await readSpend(store.records, Date.now())).toMatchObject({ usd: record.cost?.marginal_usd });

    const marginal = record.cost?.marginal_usd ?? Number.NaN;
    await heartbeat.stop(1_000);
    const [instance] = await instances();
    expect(instance?.jobs).toMatchObject([{ is_whole: true, audio_seconds: 60 }]);
    const lived = (Date.parse(instance?.ended_at ?? '') - Date.parse(instance?.started_at ?? '')) / 1_000;
    await attributeCosts(store, {
      type: 'attribute-costs',
      instance: { backend: SERVICE.name, id: 'gpu-1' },
    });
    const { cost } = await store.record(job);
    // It was its only job, and so pays for all of it: a minute at least.
    const bill = Math.max(60, lived) * USD_PER_SECOND;
    const others = marginal - (part?.usd ?? 0);
    expect(cost?.attributed_usd).toBeGreaterThanOrEqual(bill + others - 1e-6);
    expect(cost?.attributed_usd).toBeLessThanOrEqual(bill + others + 0.1 * USD_PER_SECOND + 1e-6);
    expect(cost?.marginal_usd).toBe(marginal);
    // The daily limit counts the idle tail too.
    expect((await readSpend(store.records, Date.now())).usd).toBe(cost?.attributed_usd);
  });

  test('says nothing of the speed where it was broken off, or went on from a checkpoint', async () => {
    const heartbeat = start();
    const [broken, continued] = [
      await store.submitDecoded(SERVICE.name),
      await store.submitDecoded(SERVICE.name),
    ];
    await work(heartbeat, broken, 'fail', 0);
    await store.change(continued, (record) => {
      record.checkpoints.transcribe = [{ epoch: 1, parts: 1 }];
    });
    await work(heartbeat, continued, 'settle', 0);
    await heartbeat.stop(1_000);
    expect((await instances()).flatMap(({ jobs }) => jobs.map(({ is_whole }) => is_whole))).toEqual([
      false,
      false,
    ]);
  });

  test('keeps what it used when its user has it tried again', async () => {
    const job = await store.submitDecoded(SERVICE.name);
    await store.change(job, (record) => {
      record.tries.transcribe.attempt = 4;
    });
    await work(undefined, job, 'fail', 100);
    const failed = await store.record(job);
    expect(failed).toMatchObject({ status: 'failed', cost: { marginal_usd: expect.any(Number) } });
    await retryJob(store, job);
    await work(undefined, job, 'settle', 100);
    const done = await store.record(job);
    expect(done.cost?.marginal_usd).toBeGreaterThan(failed.cost?.marginal_usd ?? Number.NaN);
    // A note of each, and together they are all of it.
    const { usd, jobs } = await readSpend(store.records, Date.now());
    expect(jobs.size).toBe(2);
    expect(usd).toBeCloseTo(done.cost?.marginal_usd ?? Number.NaN, 9);
  });

  test('has its cost noted even if the store fails at it, later', async () => {
    const job = await store.submitDecoded(SERVICE.name);
    let failures = 0;
    const whole = store;
    const records = {
      ...agedRecords(store.records, 0),
      create: async (...args: Parameters<typeof store.records.create>) => {
        if (args[0].startsWith('spend/') && failures++ === 0) throw new Error('the store is away');
        return whole.records.create(...args);
      },
    };
    store = { ...whole, records: records as never };
    await work(undefined, job, 'settle', 0);
    store = whole;
    expect((await store.record(job)).status).toBe('completed');
    expect((await readSpend(store.records, Date.now())).usd).toBe(0);
    await reconcile(store, { type: 'reconcile' }, never);
    expect((await readSpend(store.records, Date.now())).usd).toBe(
      (await store.record(job)).cost?.marginal_usd,
    );
    expect(await store.records.read(activeKey(job))).toBeUndefined();
  });
});
