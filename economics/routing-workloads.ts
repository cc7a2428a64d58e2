import type { PlatformAssumptions } from '../core/costs/platform-models.ts';
import { mulberry32 } from '../core/mulberry32.ts';
import {
  ARRIVAL_PATTERNS,
  type ArrivalPattern,
  makeWorkload,
  oneAfterTheOther,
  type Workload,
  type WorkloadOptions,
} from './workload.ts';

/** What auto is tried on. */
export interface RoutingCase {
  name: string;
  workload: Workload;
  assumptions: PlatformAssumptions;
  /** Whether its days differ so much that no one platform fits all of them. */
  changes: boolean;
}

type Described = Omit<WorkloadOptions, 'seed' | 'lengths'> & Partial<Pick<WorkloadOptions, 'lengths'>>;

const quiet = { pattern: 'steady', videosPerDay: 1, audioMinutes: 40 } as const;

const NAMED: Record<string, Described | readonly Described[]> = {
  'a lone file a day': { pattern: 'steady', videosPerDay: 1, audioMinutes: 71, days: 56 },
  'office hours, 60 a day': { pattern: 'office-hours', videosPerDay: 60, audioMinutes: 40, days: 28 },
  'every night 500 of 30 minutes': {
    pattern: 'nightly',
    videosPerDay: 500,
    audioMinutes: 30,
    days: 4,
    lengths: 'fixed',
  },
  'half of a month in one evening': { pattern: 'spike', videosPerDay: 20, audioMinutes: 30, days: 28 },
  'steady, 250 a day': { pattern: 'steady', videosPerDay: 250, audioMinutes: 40, days: 7 },
  'mostly short, some very long': {
    pattern: 'steady',
    videosPerDay: 100,
    audioMinutes: 20,
    days: 14,
    lengths: 'heavy',
  },
  'quiet, a campaign, quiet': [
    { ...quiet, days: 21 },
    { pattern: 'steady', videosPerDay: 300, audioMinutes: 40, days: 5 },
    { ...quiet, days: 14 },
  ],
  'short clips, then lectures': [
    { pattern: 'steady', videosPerDay: 200, audioMinutes: 3, days: 5 },
    { pattern: 'office-hours', videosPerDay: 80, audioMinutes: 80, days: 5 },
    { pattern: 'steady', videosPerDay: 200, audioMinutes: 3, days: 5 },
  ],
};
/** Against what is assumed. */
const SPEEDS = { '': 1, 'half as fast': 0.5, 'four times as fast': 4 };

/** Each of them with the GPU that is assumed, with a slower one, and with a faster one. */
export function namedCases(seed: number, assumed: PlatformAssumptions): RoutingCase[] {
  return Object.entries(SPEEDS).flatMap(([speed, times]) =>
    Object.entries(NAMED).map(([name, described]) => {
      const phases = 'days' in described ? [described] : described;
      return {
        name: speed === '' ? name : `${name}; GPU ${speed}`,
        workload: oneAfterTheOther(
          phases.map((phase, i) => makeWorkload({ lengths: 'varied', ...phase, seed: seed + i })),
        ),
        assumptions: {
          ...assumed,
          gpu: { ...assumed.gpu, realtimeFactor: assumed.gpu.realtimeFactor * times },
        },
        changes: phases.length > 1,
      };
    }),
  );
}

/** So many recordings are enough to see what it comes to. */
const MOST_RECORDINGS = 1_000;

/** Drawn at random: rates and lengths over decades, patterns, speeds and prices. */
export function randomCase(seed: number, assumed: PlatformAssumptions): RoutingCase {
  const random = mulberry32(seed);
  const logBetween = (low: number, high: number) => low * (high / low) ** random();
  const oneOf = <T>(all: readonly T[]) => all[Math.floor(random() * all.length)] as T;
  const phases = Array.from({ length: random() < 0.3 ? 3 : 1 }, (_, i) => {
    const videosPerDay = logBetween(0.3, 1_000);
    const days = Math.max(1, Math.min(28, Math.floor(MOST_RECORDINGS / videosPerDay)));
    return {
      pattern: oneOf(Object.keys(ARRIVAL_PATTERNS) as ArrivalPattern[]),
      videosPerDay,
      days,
      audioMinutes: logBetween(2, 120),
      lengths: oneOf(['fixed', 'varied', 'heavy'] as const),
      seed: seed * 10 + i,
    };
  });
  const { prices } = assumed;
  const voxtral = { ...prices['voxtral-mini'], usd: prices['voxtral-mini'].usd * logBetween(0.5, 3) };
  return {
    name: `seed ${seed}: ${phases.map(({ pattern, videosPerDay }) => `${videosPerDay.toPrecision(2)} a day, ${pattern}`).join(', then ')}`,
    workload: oneAfterTheOther(phases.map(makeWorkload)),
    assumptions: {
      ...assumed,
      prices: { ...prices, 'voxtral-mini': voxtral },
      gpu: { ...assumed.gpu, realtimeFactor: logBetween(5, 40) },
      coldStartSeconds: logBetween(20, 110),
      idleTailSeconds: logBetween(100, 600),
      maxGpus: oneOf([1, 3, 10]),
    },
    changes: phases.length > 1,
  };
}
