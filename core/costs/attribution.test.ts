import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { JobRecord } from '../job.ts';
import { newJobId } from '../objects.ts';
import { attributeEveryMs, instanceBill } from './attribution.ts';
import { CLOUD_RUN_METERING } from './instance-bill.ts';
import type { Heartbeat } from './instances.ts';
import { attributedUsd } from './job-cost.ts';

const METERING = { ...CLOUD_RUN_METERING, usdPerSecond: 0.0004 };
const STARTED_MS = Date.UTC(2026, 10, 26);

/** One job's call of an instance, after a rest. */
const call = fc.record({ job: fc.nat(4), rest: fc.nat(900_000), busy: fc.nat(1_500_000) });
/** An instance's life: its start, its calls, its idle tail, and whether it could say that it ended. */
const life = fc.record({
  cold: fc.nat(120_000),
  calls: fc.array(call, { minLength: 1, maxLength: 6 }),
  tail: fc.nat(600_000),
  isContinuation: fc.boolean(),
  saidItsEnd: fc.boolean(),
});
const JOBS = Array.from({ length: 5 }, () => newJobId(STARTED_MS));

function heartbeatOf({
  cold,
  calls,
  tail,
  isContinuation,
  saidItsEnd,
}: typeof life extends fc.Arbitrary<infer T> ? T : never): {
  heartbeat: Heartbeat;
  seconds: number;
} {
  const busy = new Map<number, number>();
  let ms = cold;
  for (const [i, one] of calls.entries()) {
    ms += (i === 0 ? 0 : one.rest) + one.busy;
    busy.set(one.job, (busy.get(one.job) ?? 0) + one.busy);
  }
  ms += tail;
  const iso = (after: number) => new Date(STARTED_MS + after).toISOString();
  return {
    seconds: ms / 1_000,
    heartbeat: {
      backend: 'gpu',
      trigger: 'push',
      started_at: iso(0),
      beat_at: iso(ms),
      busy_since: null,
      idle_since: iso(ms - tail),
      ended_at: saidItsEnd ? iso(ms) : null,
      is_continuation: isContinuation,
      jobs: [...busy].map(([job, milliseconds]) => ({
        owner: 'local',
        id: JOBS[job] as string,
        busy_seconds: milliseconds / 1_000,
        audio_seconds: 60,
        is_whole: true,
      })),
    },
  };
}

test('of 10,000 histories of instances and jobs no share is negative, every rest is in them once, and they are the bill', () => {
  fc.assert(
    fc.property(fc.array(life, { minLength: 1, maxLength: 3 }), (lives) => {
      let billed = 0;
      const records = new Map<string, Pick<JobRecord, 'usage'>>();
      for (const [i, one] of lives.entries()) {
        const { heartbeat, seconds } = heartbeatOf(one);
        const { usd, shares } = instanceBill(heartbeat, METERING);
        // Its start, its work, its rests and its tail, each once, by tenths of a second.
        const least = one.isContinuation ? 0 : 60;
        const expected = Math.max(least, seconds) * METERING.usdPerSecond;
        if (usd < expected - 1e-9 || usd > expected + 0.1 * METERING.usdPerSecond + 1e-9) return false;
        billed += usd;
        for (const share of shares) {
          const record = records.get(share.id) ?? { usage: [] };
          records.set(share.id, record);
          const usage = record.usage[0] ?? {
            backend: 'gpu',
            busy_seconds: 0,
            cold_start_seconds: 0,
            gpu_seconds: 0,
            instances: [],
            api_audio_seconds: 0,
            unconfirmed_audio_seconds: 0,
          };
          record.usage = [usage];
          usage.instances.push({
            id: `i${i}`,
            busy_seconds: 0,
            cold_start_seconds: 0,
            attributed_usd: share.usd,
          });
        }
      }
      // What the seconds alone would have cost is not in the attributed cost besides.
      const marginal = { item: 'instance', backend: 'gpu', quantity: 1, unit: 'second', usd: 5 } as const;
      const costs = [...records.values()].map(({ usage }) => attributedUsd([marginal], usage) ?? Number.NaN);
      const sum = costs.reduce((total, usd) => total + usd, 0);
      return Math.min(...costs) >= 0 && Math.abs(sum - billed) < 1e-6;
    }),
    { numRuns: 10_000 },
  );
});

test('an instance that did nothing has a bill and nobody to pay it', () => {
  const { heartbeat } = heartbeatOf({
    cold: 9_000,
    calls: [],
    tail: 0,
    isContinuation: false,
    saidItsEnd: true,
  });
  expect(instanceBill(heartbeat, METERING)).toEqual({ usd: 60 * METERING.usdPerSecond, shares: [] });
});

test('while a share is missing the attributed cost is not known', () => {
  const instance = { id: 'a', busy_seconds: 1, cold_start_seconds: 0, attributed_usd: null };
  const usage = {
    backend: 'gpu',
    busy_seconds: 1,
    cold_start_seconds: 0,
    gpu_seconds: 1,
    instances: [instance],
    api_audio_seconds: 0,
    unconfirmed_audio_seconds: 0,
  };
  const ingest = { item: 'ingest', backend: 'cpu-service', quantity: 1, unit: 'second', usd: 0.25 } as const;
  expect(attributedUsd([ingest], [usage])).toBeNull();
  const known = { ...usage, instances: [{ ...instance, attributed_usd: 0.5 }] };
  expect(attributedUsd([ingest], [known])).toBe(0.75);
});

test('instances that come and go are looked at more often than a server', () => {
  expect(attributeEveryMs('cloud-run-service')).toBeLessThan(attributeEveryMs('server'));
});
