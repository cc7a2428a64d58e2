import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { SAMPLE_RATE } from '../../core/sample-rate.ts';
import { FRAME_SAMPLES, Frames } from './frames.ts';
import { cutWindows, QuietCuts } from './quiet-cuts.ts';

test('pieces keep the limit and lose nothing, wherever in their windows the cuts lie', () => {
  const lengths = { samples: fc.integer({ min: 1, max: 4e9 }), limit: fc.integer({ min: 1_000, max: 2e8 }) };
  fc.assert(
    fc.property(
      fc.record(lengths),
      fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
      (of, at) => {
        const { limit } = of;
        const samples = Math.min(of.samples, limit * 200);
        const windows = cutWindows(samples, limit);
        if (samples <= limit) expect(windows).toEqual([]);
        const cuts = windows.map(({ from, to }) =>
          Math.floor(from + (at.next().value as number) * (to - from)),
        );
        const borders = [0, ...cuts, samples];
        for (const [index, to] of borders.slice(1).entries()) {
          const length = to - (borders[index] as number);
          expect(length).toBeGreaterThan(0);
          expect(length).toBeLessThanOrEqual(limit);
        }
      },
    ),
  );
});

describe('a cut', () => {
  const second = SAMPLE_RATE / FRAME_SAMPLES;
  const window = { from: 2 * SAMPLE_RATE, to: 8 * SAMPLE_RATE };
  const cutOf = (energyAt: (seconds: number) => number): number => {
    const cuts = new QuietCuts([window]);
    for (let frame = 0; frame < 10 * second; frame++) cuts.add(energyAt(frame / second));
    return (cuts.cuts[0] as number) / SAMPLE_RATE;
  };
  const between = (from: number, to: number) => (at: number) => at >= from && at < to;

  test.each<[string, number, (at: number) => number]>([
    ['in the only pause', 6.5, (at) => (between(6.3, 6.7)(at) ? 3 : 900)],
    ['in the quietest of two', 3.2, (at) => (between(3, 3.4)(at) ? 1 : between(5, 5.6)(at) ? 2 : 900)],
    [
      'not in a moment that is shorter than a pause',
      7,
      (at) => (between(4, 4.1)(at) ? 0 : between(6.8, 7.2)(at) ? 100 : 900),
    ],
    ['in the middle of silence', 5, () => 0],
    ['nearest to the middle in a long silence', 6.2, (at) => (between(6, 9)(at) ? 0 : 900)],
    ['within the window, though it is quieter outside', 7.7, (at) => (at >= 7.5 ? 1 : 900)],
    ['in the middle where all is equally loud', 5, () => 900],
  ])('lies %s', (_, seconds, energyAt) => {
    expect(cutOf(energyAt)).toBeCloseTo(seconds, 1);
  });
});

test('frames are the same in whatever pieces the bytes arrive', () => {
  const pcm = Buffer.alloc(FRAME_SAMPLES * 2 * 5);
  for (let at = 0; at < pcm.length; at += 2) pcm.writeInt16LE(((at * 7_919) % 65_536) - 32_768, at);
  const energiesOf = (pieces: Buffer[]): number[] => {
    const energies: number[] = [];
    const frames = new Frames((energy) => energies.push(energy));
    for (const piece of pieces) frames.push(piece);
    return energies;
  };
  const whole = energiesOf([pcm]);
  expect(whole).toHaveLength(5);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 801 }), { maxLength: 20 }), (sizes) => {
      const pieces: Buffer[] = [];
      let at = 0;
      for (const size of sizes) {
        pieces.push(pcm.subarray(at, at + size));
        at = Math.min(pcm.length, at + size);
      }
      expect(energiesOf([...pieces, pcm.subarray(at)])).toEqual(whole);
    }),
    { numRuns: 30 },
  );
});
