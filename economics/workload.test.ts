import { expect, test } from '@jest/globals';
import { ARRIVAL_PATTERNS, type ArrivalPattern, makeWorkload, type WorkloadOptions } from './workload.ts';

const options: WorkloadOptions = {
  pattern: 'steady',
  videosPerDay: 50,
  audioMinutes: 60,
  lengths: 'varied',
  days: 28,
  seed: 3,
};
const HOUR = 3_600;
const patterns = Object.keys(ARRIVAL_PATTERNS) as ArrivalPattern[];

test.each(patterns)(
  '%s: as many as asked for, in order, within the time, the same for the same seed',
  (pattern) => {
    const { arrivals, horizonSeconds } = makeWorkload({ ...options, pattern });
    const times = arrivals.map(({ atSeconds }) => atSeconds);
    expect(times).toHaveLength(50 * 28);
    expect(times).toEqual(times.toSorted((one, other) => one - other));
    expect(times[0]).toBeGreaterThanOrEqual(0);
    expect(times.at(-1)).toBeLessThanOrEqual(horizonSeconds);
    expect(makeWorkload({ ...options, pattern }).arrivals).toEqual(arrivals);
    expect(makeWorkload({ ...options, pattern, seed: 4 }).arrivals).not.toEqual(arrivals);
  },
);

test('office hours are nine to five on weekdays', () => {
  for (const { atSeconds } of makeWorkload({ ...options, pattern: 'office-hours' }).arrivals) {
    const hour = (atSeconds / HOUR) % 24;
    expect(Math.floor(atSeconds / HOUR / 24) % 7).toBeLessThan(5);
    expect(hour).toBeGreaterThanOrEqual(9);
    expect(hour).toBeLessThan(17);
  }
});

test('a night has all of its day at two', () => {
  const { arrivals } = makeWorkload({ ...options, pattern: 'nightly', days: 2 });
  expect(new Set(arrivals.map(({ atSeconds }) => Math.floor(atSeconds / HOUR)))).toEqual(new Set([2, 26]));
});

test('lengths that vary have the mean that was asked for, and half are below 0.7 of it', () => {
  const { arrivals } = makeWorkload({ ...options, videosPerDay: 2_000 });
  const lengths = arrivals.map(({ audioSeconds }) => audioSeconds).toSorted((one, other) => one - other);
  const mean = lengths.reduce((sum, one) => sum + one, 0) / lengths.length;
  expect(Math.abs(mean / HOUR - 1)).toBeLessThan(0.03);
  expect(Math.abs((lengths[lengths.length / 2] ?? 0) / HOUR - 0.7)).toBeLessThan(0.03);
});
