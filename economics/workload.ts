import { mulberry32 } from '../core/mulberry32.ts';

/** A recording that somebody submits. */
export interface Arrival {
  atSeconds: number;
  audioSeconds: number;
}

export interface Workload {
  arrivals: readonly Arrival[];
  /** How long it was looked at: what is paid by the month is paid for this. */
  horizonSeconds: number;
}

/** When recordings come. */
export const ARRIVAL_PATTERNS = {
  /** At any time of day or night, as likely as at any other. */
  steady: 'at any time',
  /** Monday to Friday from nine to five. */
  'office-hours': 'Monday to Friday from nine to five',
  /** All at once, at two in the morning. */
  nightly: 'all at once at two in the morning',
  /** Half of all in one evening of the month, the rest at any time. */
  spike: 'half of all within two hours of the month, the rest at any time',
  /** One after the other, as far apart as they can be. */
  even: 'as far apart as they can be',
  /** Twenty within an hour or less, then none for long. */
  bursts: 'twenty at a time, within an hour',
} as const;
export type ArrivalPattern = keyof typeof ARRIVAL_PATTERNS;

export interface WorkloadOptions {
  pattern: ArrivalPattern;
  videosPerDay: number;
  /** The mean length. */
  audioMinutes: number;
  /**
   * `fixed`: all have it. `varied`: half are shorter than seven tenths of it, and some many times longer. `heavy`: half
   * are shorter than a quarter of it, and one in a hundred is more than ten times as long.
   */
  lengths: keyof typeof SIGMA | 'fixed';
  days: number;
  seed: number;
}

const HOUR = 3_600;
const DAY = 24 * HOUR;
/** Of log-normal distributions: their medians are then 0.7 and 0.2 of their means. */
const SIGMA = { varied: 0.845, heavy: 1.8 } as const;

interface Draw {
  /** Which of them. */
  i: number;
  count: number;
  days: number;
  random(): number;
}

/** When the i-th comes, in seconds. */
const TIMES: Record<ArrivalPattern, (draw: Draw) => number> = {
  steady: ({ days, random }) => random() * days * DAY,
  even: ({ i, count, days }) => ((i + 0.5) / count) * days * DAY,
  nightly: ({ i, count, days, random }) => Math.floor((i / count) * days) * DAY + 2 * HOUR + random() * 60,
  'office-hours': ({ days, random }) =>
    workday(Math.floor(random() * days), days) * DAY + (9 + 8 * random()) * HOUR,
  spike: ({ i, days, random }) =>
    i % 2 === 0 ? random() * days * DAY : (days / 2) * DAY + random() * 2 * HOUR,
  bursts: ({ i, days, random }) => burstDay(Math.floor(i / 20), days) * DAY + random() * HOUR * 0.9,
};

/** The same for the same options. The first day is a Monday. */
export function makeWorkload(options: WorkloadOptions): Workload {
  const { pattern, videosPerDay, days, seed } = options;
  const random = mulberry32(seed);
  const count = Math.max(1, Math.round(videosPerDay * days));
  const horizonSeconds = days * DAY;
  const when = TIMES[pattern];
  const times = Array.from({ length: count }, (_, i) => when({ i, count, days, random }));
  const arrivals = times
    .map((atSeconds) => ({ atSeconds, audioSeconds: audioSeconds(options, random) }))
    .sort((one, other) => one.atSeconds - other.atSeconds);
  return { arrivals, horizonSeconds };
}

/** The day of the i-th burst and the time on it: as if by chance, and never too late for its hour. */
function burstDay(i: number, days: number): number {
  const golden = 0.618_033_988_75;
  return (((i + 1) * golden) % 1) * (days - 1 / 24);
}

/** Several one after the other. */
export function oneAfterTheOther(workloads: readonly Workload[]): Workload {
  let horizonSeconds = 0;
  const arrivals: Arrival[] = [];
  for (const one of workloads) {
    for (const { atSeconds, audioSeconds } of one.arrivals)
      arrivals.push({ atSeconds: horizonSeconds + atSeconds, audioSeconds });
    horizonSeconds += one.horizonSeconds;
  }
  return { arrivals, horizonSeconds };
}

/** Weekends move to the Monday after, or where there is none the Friday before. */
function workday(day: number, days: number): number {
  const weekday = day % 7;
  if (weekday < 5) return day;
  const monday = day + 7 - weekday;
  return monday < days ? monday : Math.max(0, day - (weekday - 4));
}

function audioSeconds({ audioMinutes, lengths }: WorkloadOptions, random: () => number): number {
  const mean = audioMinutes * 60;
  if (lengths === 'fixed') return mean;
  // Box and Muller's normal number; 1 - u is never 0.
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const sigma = SIGMA[lengths];
  return Math.max(1, mean * Math.exp(sigma * normal - sigma ** 2 / 2));
}
