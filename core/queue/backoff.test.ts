import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { backoffMs } from './backoff.ts';

test('gives the waits that Cloud Tasks documents for 10 s to 300 s with 3 doublings', () => {
  const backoff = { minMs: 10_000, maxMs: 300_000, maxDoublings: 3 };
  const waits = Array.from({ length: 8 }, (_, i) => backoffMs(i + 1, backoff) / 1_000);
  expect(waits).toEqual([10, 20, 40, 80, 160, 240, 300, 300]);
});

test('grows by the same step from the start when nothing may double', () => {
  const backoff = { minMs: 1_000, maxMs: 60_000, maxDoublings: 0 };
  expect([1, 2, 3, 4].map((retry) => backoffMs(retry, backoff))).toEqual([1_000, 2_000, 3_000, 4_000]);
});

test('never shrinks, never leaves its limits', () => {
  fc.assert(
    fc.property(
      fc.record({ minMs: fc.integer({ min: 1, max: 60_000 }), maxDoublings: fc.nat(16) }),
      fc.integer({ min: 60_000, max: 3_600_000 }),
      fc.integer({ min: 1, max: 2_000 }),
      (limits, maxMs, retry) => {
        const wait = backoffMs(retry, { ...limits, maxMs });
        expect(wait).toBeGreaterThanOrEqual(limits.minMs);
        expect(wait).toBeLessThanOrEqual(maxMs);
        expect(backoffMs(retry + 1, { ...limits, maxMs })).toBeGreaterThanOrEqual(wait);
      },
    ),
  );
});
