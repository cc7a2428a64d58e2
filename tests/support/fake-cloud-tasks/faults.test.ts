import { expect, test } from '@jest/globals';
import { Faults } from './faults.ts';

function draw(seed: number): boolean[] {
  const faults = new Faults(seed);
  faults.set({ rates: { 'lose-answer': 0.3 } });
  return Array.from({ length: 200 }, () => faults.happens('lose-answer'));
}

test('the same seed makes the same faults', () => {
  expect(draw(7)).toEqual(draw(7));
  expect(draw(7)).not.toEqual(draw(8));
});

test('faults are about as frequent as asked', () => {
  const count = draw(7).filter(Boolean).length;
  expect(count).toBeGreaterThan(40);
  expect(count).toBeLessThan(80);
});

test('what is asked for once happens once, and is counted', () => {
  const faults = new Faults(1);
  faults.set({ next: { 'refuse-create': 1 } });
  expect([faults.happens('refuse-create'), faults.happens('refuse-create')]).toEqual([true, false]);
  expect(faults.counts['refuse-create']).toBe(1);
});
