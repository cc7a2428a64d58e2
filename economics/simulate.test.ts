import { describe, expect, test } from '@jest/globals';
import { CLOUD_RUN_METERING } from '../core/costs/instance-bill.ts';
import { ASSUMED, type Platform, platforms, type ServicePlatform } from '../core/costs/platform-models.ts';
import { PRICES } from '../core/costs/prices.ts';
import { mulberry32 } from '../core/mulberry32.ts';
import { simulate } from './simulate.ts';
import { percentile, summarize } from './summary.ts';
import type { Arrival, Workload } from './workload.ts';

const CENT = 0.01;
const speed = { realtimeFactor: 10, overheadSeconds: 0 };
const service: ServicePlatform = {
  kind: 'service',
  ...speed,
  metering: { ...CLOUD_RUN_METERING, usdPerSecond: 0.001 },
  coldStartSeconds: 30,
  idleTailSeconds: 600,
  minInstances: 0,
  maxInstances: 1,
};
const workload = (...arrivals: [atSeconds: number, audioSeconds: number][]): Workload => ({
  arrivals: arrivals.map(([atSeconds, audioSeconds]) => ({ atSeconds, audioSeconds })),
  horizonSeconds: 24 * 3_600,
});

describe('a service without always-on instances', () => {
  test('costs a lone job its cold start, its work and the whole tail', () => {
    const { billUsd, jobs, instances } = simulate(service, workload([100, 1_000]));
    expect(billUsd).toBeCloseTo((30 + 100 + 600) * 0.001, 9);
    expect(jobs[0]).toMatchObject({ startedAt: 130, endedAt: 230, busySeconds: 130 });
    expect(jobs[0]?.attributedUsd).toBeCloseTo(billUsd, 9);
    expect(jobs[0]?.marginalUsd).toBeCloseTo(0.13, 9);
    expect(instances).toHaveLength(1);
  });

  test('counts the tail once for jobs that find it warm', () => {
    const { billUsd, jobs, instances } = simulate(service, workload([0, 1_000], [200, 1_000], [600, 1_000]));
    expect(jobs.map(({ startedAt }) => startedAt)).toEqual([30, 200, 600]);
    expect(instances).toHaveLength(1);
    expect(billUsd).toBeCloseTo((700 + 600) * 0.001, 9);
  });

  test('starts anew when the tail is over', () => {
    const { instances, billUsd } = simulate(service, workload([0, 1_000], [130 + 600, 1_000]));
    expect(instances).toHaveLength(2);
    expect(billUsd).toBeCloseTo(2 * 0.73, 9);
  });

  test('has jobs wait when all instances that it may have are busy', () => {
    const { jobs } = simulate(service, workload([0, 10_000], [1, 1_000]));
    expect(jobs.map(({ startedAt }) => startedAt)).toEqual([30, 1_030]);
  });

  test('is never billed for less than a minute', () => {
    const { billUsd } = simulate({ ...service, coldStartSeconds: 1, idleTailSeconds: 0 }, workload([0, 10]));
    expect(billUsd).toBeCloseTo(0.06, 9);
  });
});

test('an always-on instance is paid for the whole time, and nobody waits for its start', () => {
  const { billUsd, fixedUsd, jobs } = simulate({ ...service, minInstances: 1 }, workload([50, 1_000]));
  expect(billUsd).toBeCloseTo(24 * 3.6, 9);
  expect(fixedUsd).toBe(billUsd);
  expect(jobs[0]?.startedAt).toBe(50);
  expect(jobs[0]?.attributedUsd).toBeCloseTo(billUsd, 9);
});

test('a machine that is taken away is started again, and what was not stored is done again', () => {
  const run: Platform = {
    kind: 'run',
    ...speed,
    metering: { usdPerSecond: 0.001, minimumSeconds: 60, stepSeconds: 1 },
    provisioningSeconds: 200,
    coldStartSeconds: 50,
    maxRunning: 1,
    preemptionsPerHour: 0,
    lostSecondsPerPreemption: 10,
  };
  const [safe] = simulate(run, workload([0, 36_000])).jobs;
  expect(safe).toMatchObject({ startedAt: 250, endedAt: 3_850, busySeconds: 3_650 });
  const spots = Array.from(
    { length: 500 },
    (_, seed) => simulate({ ...run, preemptionsPerHour: 0.5 }, workload([0, 36_000]), seed).jobs[0],
  );
  const extra = spots.map((job) => ((job?.busySeconds ?? 0) - 3_650) / 60);
  // Half a loss in an hour of work, on average; 0.45 is three standard errors away.
  const mean = extra.reduce((sum, one) => sum + one, 0) / extra.length;
  expect(mean).toBeGreaterThan(0.4);
  expect(mean).toBeLessThan(0.6);
  for (const times of extra) expect(times).toBeCloseTo(Math.round(times), 9);
});

describe('the wait on one server', () => {
  // Arrivals at random, work of one length, one worker: Pollaczek and Khinchine's formula for M/D/1.
  test.each([0.3, 0.6, 0.8])('is that of M/D/1 at a load of %d', (load) => {
    const workSeconds = 100;
    const random = mulberry32(7);
    let at = 0;
    const arrivals: Arrival[] = Array.from({ length: 400_000 }, () => {
      at += (-Math.log(1 - random()) * workSeconds) / load;
      return { atSeconds: at, audioSeconds: workSeconds * 10 };
    });
    const server: Platform = { kind: 'server', ...speed, usdPerSecond: 0, workers: 1 };
    const { jobs } = simulate(server, { arrivals, horizonSeconds: at });
    const mean = jobs.reduce((sum, { arrivedAt, startedAt }) => sum + startedAt - arrivedAt, 0) / jobs.length;
    const formula = (load / (2 * (1 - load))) * workSeconds;
    expect(Math.abs(mean - formula) / formula).toBeLessThan(0.03);
  });
});

describe('of 10,000 workloads drawn at random, on every platform', () => {
  const random = mulberry32(2026);
  const between = (low: number, high: number) => low + random() * (high - low);
  const draw = (): Workload => {
    const horizonSeconds = between(3_600, 3 * 24 * 3_600);
    const count = Math.ceil(between(0, 25));
    // Some come close together, as a busy period has them.
    const burst = random() < 0.5 ? between(10, 3_000) : horizonSeconds;
    return {
      horizonSeconds,
      arrivals: Array.from({ length: count }, () => ({
        atSeconds: between(0, burst),
        audioSeconds: between(1, 3 * 3_600),
      })).sort((one, other) => one.atSeconds - other.atSeconds),
    };
  };
  const workloads = Array.from({ length: 10_000 }, draw);

  test.each(Object.entries(platforms({ ...ASSUMED, prices: PRICES })))(
    '%s: no cost is negative, and what jobs cost is what the platform bills, to the cent',
    (_, platform) => {
      for (const [i, each] of workloads.entries()) {
        const tail = { maxInstances: 1 + (i % 4), idleTailSeconds: (i % 7) * 100 };
        const { jobs, billUsd, fixedUsd, instances } = simulate({ ...platform, ...tail }, each, i);
        const costs = jobs.map(({ attributedUsd }) => attributedUsd);
        const sum = costs.reduce((total, usd) => total + usd, 0);
        if (Math.min(...costs, billUsd, fixedUsd) < -1e-9)
          throw new Error(`workload ${i} has a negative cost`);
        if (Math.abs(sum - billUsd) >= CENT / 100) throw new Error(`workload ${i}: ${sum} is not ${billUsd}`);
        if (jobs.some(({ startedAt, arrivedAt, endedAt }) => startedAt < arrivedAt || endedAt < startedAt))
          throw new Error(`workload ${i} has a job out of time`);
        if (platform.kind === 'service')
          expectOneTailEach(instances, jobs, tail.idleTailSeconds, platform.minInstances, i);
      }
    },
  );
});

/** What an instance lived is what it was kept busy, the gaps that its tail bridged, and one tail at its end. */
function expectOneTailEach(
  instances: ReturnType<typeof simulate>['instances'],
  jobs: ReturnType<typeof simulate>['jobs'],
  tailSeconds: number,
  alwaysOn: number,
  i: number,
): void {
  for (const { startedAt, endedAt } of instances.slice(alwaysOn)) {
    const last = endedAt - tailSeconds;
    const endsWithAJob = jobs.some((job) => Math.abs(job.endedAt - last) < 1e-6);
    if (!endsWithAJob || last < startedAt) throw new Error(`workload ${i}: a tail that follows no job`);
  }
}

test('a percentile is a value that was seen', () => {
  expect(percentile([3, 1, 2, 4], 0.5)).toBe(2);
  expect(percentile([3, 1, 2, 4], 0.95)).toBe(4);
  expect(percentile([7], 0.5)).toBe(7);
});

test('a summary tells fixed and variable parts for thirty days', () => {
  const one = simulate({ ...service, minInstances: 1 }, workload([50, 1_000]));
  const { monthlyFixedUsd, monthlyVariableUsd, usdPerAudioHour } = summarize(one, 24 * 3_600);
  expect(monthlyFixedUsd).toBeCloseTo(30 * 24 * 3.6, 6);
  expect(monthlyVariableUsd).toBeCloseTo(0, 9);
  expect(usdPerAudioHour).toBeCloseTo(one.billUsd * 3.6, 6);
});
