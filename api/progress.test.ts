import { describe, expect, test } from '@jest/globals';
import type { JobRecord } from '../core/job.ts';
import { parseOptions } from '../core/options.ts';
import { percentOf } from './progress.ts';

type Stages = JobRecord['stages'];
const state = (name: Stages[number]['name'], fraction: number): Stages[number] => ({
  name,
  status: fraction === 1 ? 'done' : 'running',
  seconds: 1,
  fraction,
});

describe('the percentage of a job', () => {
  const percent = (stages: Stages, fields: Record<string, unknown> = {}) =>
    percentOf({ status: 'processing', options: parseOptions(fields).options, stages });

  test('begins at 0, ends at 100, and never falls on the way', () => {
    const way: Stages[] = [
      [],
      [state('decode', 0.5)],
      [state('decode', 1)],
      [state('decode', 1), state('detect-speech', 0.5)],
      [state('decode', 1), state('detect-speech', 1), state('transcribe', 0)],
      [state('decode', 1), state('detect-speech', 1), state('transcribe', 0.7)],
      [state('decode', 1), state('detect-speech', 1), state('transcribe', 1), state('align', 0.5)],
      [
        state('decode', 1),
        state('detect-speech', 1),
        state('transcribe', 1),
        state('align', 1),
        state('write', 1),
      ],
    ];
    const percents = way.map((stages) => percent(stages));
    expect(percents[0]).toBe(0);
    expect(percents).toEqual([...percents].sort((a, b) => a - b));
    expect(percents.at(-1)).toBe(100);
    expect(percentOf({ status: 'completed', options: parseOptions({}).options, stages: [] })).toBe(100);
  });

  test('counts only what was asked for', () => {
    const stages = [state('transcribe', 1)];
    const fewest = percent(stages, { word_timestamps: false });
    expect(fewest).toBeGreaterThan(percent(stages));
    expect(percent(stages, { diarize: true })).toBeLessThan(percent(stages));
  });
});
