import { type Platform, type PlatformAssumptions, platforms } from '../core/costs/platform-models.ts';
import { namedCases, type RoutingCase, randomCase } from './routing-workloads.ts';
import { simulate } from './simulate.ts';
import { simulateRouted } from './simulate-routed.ts';
import type { SimulatedJob } from './simulated-platform.ts';
import { percentile } from './summary.ts';

/** What auto chooses from, and is held against: each of them for all recordings. */
export const FIXED = ['cloud-run-service', 'cloud-run-job', 'voxtral'] as const;
export type Fixed = (typeof FIXED)[number];

export interface Outcome {
  billUsd: number;
  waitSecondsP95: number;
  /** The share of recordings that are done within the time that a deadline would give them. */
  inTime: number;
}

export interface RoutingRow {
  name: string;
  recordings: number;
  changes: boolean;
  fixed: Record<Fixed, Outcome>;
  auto: Outcome;
  /** The same recordings, each with the deadline. */
  autoInTime: Outcome;
  /** How many recordings auto has sent where. */
  sent: Record<Fixed, number>;
  /** The cheapest for the whole of it, as is known afterwards. */
  best: Fixed;
  /** How much more auto costs than that: below 0, less. */
  regret: number;
}

export interface RoutingReport {
  deadlineSeconds: number;
  named: RoutingRow[];
  /** Drawn at random, with seeds that nobody has looked at while the policy was made. */
  random: RoutingRow[];
}

export const DEADLINE_SECONDS = 30 * 60;
/** The policy was made with the seeds from 1 to 400. */
export const UNSEEN_SEED = 10_001;
export const RANDOM_CASES = 300;

export function makeRoutingReport(assumptions: PlatformAssumptions, seed: number): RoutingReport {
  return {
    deadlineSeconds: DEADLINE_SECONDS,
    named: namedCases(seed, assumptions).map(routingRow),
    random: Array.from({ length: RANDOM_CASES }, (_, i) =>
      routingRow(randomCase(UNSEEN_SEED + i, assumptions)),
    ),
  };
}

export function routingRow({ name, workload, assumptions, changes }: RoutingCase): RoutingRow {
  const all = platforms(assumptions);
  const three = byName((one): Platform => all[one]);
  const fixed = byName((one) => outcomeOf(simulate(three[one], workload)));
  const routed = simulateRouted(three, workload);
  const auto = outcomeOf(routed);
  const best = FIXED.reduce((one, other) => (fixed[other].billUsd < fixed[one].billUsd ? other : one));
  return {
    name,
    recordings: workload.arrivals.length,
    changes,
    fixed,
    auto,
    autoInTime: outcomeOf(simulateRouted(three, workload, { secondsToDeadline: DEADLINE_SECONDS })),
    sent: byName((one) => routed.jobs.filter(({ platform }) => platform === one).length),
    best,
    regret: auto.billUsd / fixed[best].billUsd - 1,
  };
}

function byName<T>(of: (name: Fixed) => T): Record<Fixed, T> {
  return Object.fromEntries(FIXED.map((name) => [name, of(name)])) as Record<Fixed, T>;
}

function outcomeOf({ jobs, billUsd }: { jobs: readonly SimulatedJob[]; billUsd: number }): Outcome {
  const waits = jobs.map(({ arrivedAt, startedAt }) => startedAt - arrivedAt);
  const inTime = jobs.filter(({ arrivedAt, endedAt }) => endedAt - arrivedAt <= DEADLINE_SECONDS);
  return { billUsd, waitSecondsP95: percentile(waits, 0.95), inTime: inTime.length / jobs.length };
}
