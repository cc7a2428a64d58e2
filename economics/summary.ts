import type { Platform } from '../core/costs/platform-models.ts';
import { simulate } from './simulate.ts';
import type { Simulation } from './simulated-platform.ts';
import type { Workload } from './workload.ts';

export interface Summary {
  videos: number;
  audioHours: number;
  billUsd: number;
  usdPerVideo: number;
  usdPerAudioHour: number;
  /** Thirty days of it: what is paid in any case, and what the recordings cause. */
  monthlyFixedUsd: number;
  monthlyVariableUsd: number;
  /** From the submission to the first second of work. */
  waitSeconds: { p50: number; p95: number };
  /** From the submission to the transcript. */
  turnaroundSeconds: { p50: number; p95: number };
  /** The share of what was paid for by time that was work; null where nothing is. */
  utilisation: number | null;
  /** Cold starts, or runs. */
  instances: number;
}

const MONTH_SECONDS = 30 * 24 * 3_600;

export function summarize(
  { jobs, billUsd, fixedUsd, utilisation, instances }: Simulation,
  horizonSeconds: number,
): Summary {
  const audioHours = jobs.reduce((sum, { audioSeconds }) => sum + audioSeconds, 0) / 3_600;
  const months = horizonSeconds / MONTH_SECONDS;
  const waits = jobs.map(({ arrivedAt, startedAt }) => startedAt - arrivedAt);
  const turnarounds = jobs.map(({ arrivedAt, endedAt }) => endedAt - arrivedAt);
  return {
    videos: jobs.length,
    audioHours,
    billUsd,
    usdPerVideo: billUsd / jobs.length,
    usdPerAudioHour: billUsd / audioHours,
    monthlyFixedUsd: fixedUsd / months,
    monthlyVariableUsd: (billUsd - fixedUsd) / months,
    waitSeconds: { p50: percentile(waits, 0.5), p95: percentile(waits, 0.95) },
    turnaroundSeconds: { p50: percentile(turnarounds, 0.5), p95: percentile(turnarounds, 0.95) },
    utilisation,
    instances: instances.length,
  };
}

export function summaryOf(platform: Platform, workload: Workload, seed = 1): Summary {
  return summarize(simulate(platform, workload, seed), workload.horizonSeconds);
}

/** The smallest value that so many are not above. */
export function percentile(values: readonly number[], fraction: number): number {
  const sorted = values.toSorted((one, other) => one - other);
  return sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)] ?? 0;
}
