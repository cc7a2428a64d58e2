import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { completeWordTimes, settleTimes } from './word-times.ts';

const raw = (word: string, start: number | null, end: number | null, score: number | null = 0.5) => ({
  word,
  start,
  end,
  score,
});

test('words with times keep them, and their scores', () => {
  const words = [raw('two', 1, 1.234, 0.9), raw('words', 1.3, 1.75, 0.8)];
  expect(completeWordTimes({ start: 1, end: 1.75, text: 'two words', words })).toEqual(words);
});

test('words without times share the gap between their neighbours evenly', () => {
  const words = [raw('in', 1, 2), raw('19', null, null), raw('84', null, null), raw('we', 3, 4)];
  expect(completeWordTimes({ start: 1, end: 4, text: 'in 19 84 we', words })).toEqual([
    { word: 'in', start: 1, end: 2, score: 0.5 },
    { word: '19', start: 2, end: 2.5, interpolated: true },
    { word: '84', start: 2.5, end: 3, interpolated: true },
    { word: 'we', start: 3, end: 4, score: 0.5 },
  ]);
});

test('at the borders of a segment, they share what is left of it', () => {
  const words = [raw('7', null, null), raw('is', 2, 3), raw('7', null, null)];
  expect(completeWordTimes({ start: 1, end: 3.5, text: '7 is 7', words })).toMatchObject([
    { start: 1, end: 2, interpolated: true },
    { start: 2, end: 3 },
    { start: 3, end: 3.5, interpolated: true },
  ]);
});

test('a segment of nothing but numerals is shared evenly', () => {
  const words = [raw('1', null, null), raw('2', null, null), raw('3', null, null)];
  const times = completeWordTimes({ start: 0, end: 1, text: '1 2 3', words }).map(({ start, end }) => [
    start,
    end,
  ]);
  expect(times).toEqual([
    [0, 0.333],
    [0.333, 0.667],
    [0.667, 1],
  ]);
});

test('of two that overlap, the first ends where the second starts', () => {
  const spans = [
    { start: 0, end: 9 },
    { start: 1, end: 2 },
    { start: 3, end: 4 },
  ];
  expect(settleTimes(spans, { start: 0, end: 5 })).toMatchObject([
    { start: 0, end: 1 },
    { start: 1, end: 2 },
    { start: 3, end: 4 },
  ]);
});

test('a span without an end counts as one without times', () => {
  expect(settleTimes([{ start: 1, end: null }], { start: 0, end: 2 })).toEqual([
    { start: 0, end: 2, isInterpolated: true },
  ]);
});

const anyNumber = fc.oneof(
  fc.integer({ min: -2000, max: 20_000 }).map((ms) => ms / 1000),
  fc.double(),
  fc.constantFrom(NaN, Infinity, -Infinity, -0),
);
const anySpan = fc.record({
  start: fc.option(anyNumber),
  end: fc.option(anyNumber),
});

test('whatever the models say, every span lies within its bounds and times never run backwards', () => {
  fc.assert(
    fc.property(fc.array(anySpan), fc.nat(9000), fc.nat(9000), (spans, fromMs, lengthMs) => {
      const within = { start: fromMs / 1000, end: (fromMs + lengthMs) / 1000 };
      const settled = settleTimes(spans, within);
      expect(settled).toHaveLength(spans.length);
      let now = within.start;
      for (const { start, end } of settled) {
        expect(start).toBeGreaterThanOrEqual(now);
        expect(end).toBeGreaterThanOrEqual(start);
        expect(start).toBe(Math.round(start * 1000) / 1000);
        expect(end).toBe(Math.round(end * 1000) / 1000);
        now = end;
      }
      expect(now).toBeLessThanOrEqual(within.end);
    }),
  );
});

test('times in order are not changed', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(10_000_000), { minLength: 2 }), (borders) => {
      const sorted = borders.toSorted((one, other) => one - other).map((ms) => ms / 1000);
      const spans = sorted.slice(1).map((end, index) => ({ start: sorted[index] as number, end }));
      expect(settleTimes(spans, { start: 0, end: 10_000 })).toEqual(
        spans.map((span) => ({ ...span, isInterpolated: false })),
      );
    }),
  );
});
