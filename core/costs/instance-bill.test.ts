import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { attribute, billedSeconds, CLOUD_RUN_METERING } from './instance-bill.ts';

test.each([
  [0.01, 60],
  [59.99, 60],
  [60.01, 60.1],
  [61.3, 61.3],
  [0.1 + 0.2 + 61, 61.3],
])('an instance of %d s is billed for %d', (seconds, billed) => {
  expect(billedSeconds(seconds, CLOUD_RUN_METERING)).toBeCloseTo(billed, 9);
});

test('what jobs cost is never negative, grows with what they took, and adds up to the bill', () => {
  const seconds = fc.array(fc.double({ min: 0, max: 1e5, noNaN: true }), { minLength: 1, maxLength: 50 });
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e4, noNaN: true }), seconds, (bill, busy) => {
      const shares = attribute(bill, busy);
      expect(Math.min(...shares)).toBeGreaterThanOrEqual(-1e-9);
      expect(Math.abs(shares.reduce((sum, share) => sum + share, 0) - bill)).toBeLessThan(1e-6);
      for (const [i, share] of shares.entries()) {
        for (const [j, other] of shares.entries()) {
          if ((busy[i] ?? 0) > (busy[j] ?? 0)) expect(share).toBeGreaterThanOrEqual(other - 1e-9);
        }
      }
    }),
  );
});
