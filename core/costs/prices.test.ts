import { describe, expect, test } from '@jest/globals';
import { cloudRunUsdPerSecond, PRICES, usdPerSecond, withOwnPrices } from './prices.ts';

test('every price says where it comes from and when', () => {
  for (const { source, date, region } of Object.values(PRICES)) {
    expect(source.length).toBeGreaterThan(10);
    expect(region).not.toBe('');
    expect(Date.parse(date)).toBeLessThan(Date.now());
  }
});

test('an instance costs what its GPU, CPU and memory cost: $1.42 an hour with 8 vCPU and 32 GiB', () => {
  const perHour = cloudRunUsdPerSecond(PRICES, { vcpu: 8, memoryGib: 32 }) * 3_600;
  expect(perHour).toBeCloseTo(1.4209, 4);
  expect(cloudRunUsdPerSecond(PRICES, { vcpu: 4, memoryGib: 16 }) * 3_600).toBeCloseTo(1.0465, 4);
});

test('what is not paid by time has no price a second', () => {
  expect(() => usdPerSecond(PRICES['storage-class-a'])).toThrow(TypeError);
});

describe('own prices', () => {
  const own = { usd: 0.002, unit: 'minute', region: 'ours', source: 'our contract', date: '2026-11-01' };

  test('take the place of those with their names', () => {
    const prices = withOwnPrices(JSON.stringify({ 'voxtral-mini': own }));
    expect(prices['voxtral-mini']).toEqual(own);
    expect(prices['cloud-run-l4']).toBe(PRICES['cloud-run-l4']);
  });

  test.each([
    ['not JSON', '{', 'must be JSON'],
    ['an unknown name', JSON.stringify({ 'voxtral-maxi': own }), 'the table: there is no voxtral-maxi'],
    ['a negative price', JSON.stringify({ 'voxtral-mini': { ...own, usd: -1 } }), 'voxtral-mini.usd:'],
    [
      'no source',
      JSON.stringify({ 'voxtral-mini': { ...own, source: undefined } }),
      'voxtral-mini.source: is needed',
    ],
  ])('that are wrong are refused: %s', (_, text, message) => {
    expect(() => withOwnPrices(text)).toThrow(message);
  });
});
