import type { Backend } from '../backends.ts';
import type { JobRef } from '../objects.ts';
import { attribute, billedSeconds, type Metering } from './instance-bill.ts';
import type { Heartbeat } from './instances.ts';

/** How often it is looked whether an instance has ended. Only those of a Cloud Run service come and go by themselves. */
const LOOK_EVERY_MS = { service: 10 * 60_000, other: 60 * 60_000 };

export function attributeEveryMs(kind: Backend['kind'] | undefined): number {
  return kind === 'cloud-run-service' ? LOOK_EVERY_MS.service : LOOK_EVERY_MS.other;
}

export interface Share extends JobRef {
  usd: number;
}

export interface InstanceBill {
  usd: number;
  /** Together they are the bill, unless it did no job at all. */
  shares: Share[];
}

/**
 * What an instance that has ended cost, from its start to its end: the start, the work and every rest, once. Its jobs
 * share it by the seconds for which each had it. One that showed no end ended with its last sign of life.
 */
export function instanceBill(
  { started_at, beat_at, ended_at, is_continuation, jobs }: Heartbeat,
  metering: Metering,
): InstanceBill {
  const seconds = Math.max(0, Date.parse(ended_at ?? beat_at) - Date.parse(started_at)) / 1_000;
  // The least that is billed was so with the first part of it.
  const minimumSeconds = is_continuation ? 0 : metering.minimumSeconds;
  const usd = billedSeconds(seconds, { ...metering, minimumSeconds }) * metering.usdPerSecond;
  if (jobs.length === 0) return { usd, shares: [] };
  const shares = attribute(
    usd,
    jobs.map(({ busy_seconds }) => busy_seconds),
  );
  return { usd, shares: jobs.map(({ owner, id }, i) => ({ owner, id, usd: shares[i] ?? 0 })) };
}
