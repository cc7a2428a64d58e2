import { expect, test } from '@jest/globals';
import { Loudness } from './loudness.ts';

const isLikeSpeech = (frames: number, dbAt: (frame: number) => number): boolean => {
  const loudness = new Loudness();
  for (let frame = 0; frame < frames; frame++) loudness.add(32_768 ** 2 * 10 ** (dbAt(frame) / 10));
  return loudness.isLikeSpeech;
};

test.each<[boolean, string, (frame: number) => number]>([
  [false, 'silence', () => Number.NEGATIVE_INFINITY],
  [false, 'a quiet room', (frame) => -62 + (frame % 5)],
  [false, 'a hum', () => -30],
  [true, 'somebody who talks', (frame) => (frame % 50 < 30 ? -25 : -60)],
  [true, 'one sentence in half an hour', (frame) => (frame > 4_000 && frame < 4_250 ? -35 : -65)],
])('%p: %s', (expected, _, dbAt) => {
  expect(isLikeSpeech(90_000, dbAt)).toBe(expected);
});
