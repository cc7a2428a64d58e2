import { expect, test } from '@jest/globals';
import { clock, formatBytes, type Observed, ProgressReport, RemainingTime } from './progress.ts';

const look = (stage: string | null, percent: number, done: Record<string, number> = {}): Observed => ({
  status: 'processing',
  stage,
  progress: {
    percent,
    stages: Object.entries(done).map(([name, seconds]) => ({ name, status: 'done', seconds })),
  },
});

test('every stage is told once, also those that began and ended between two looks', () => {
  const report = new ProgressReport();
  expect(report.look(look(null, 0))).toEqual([]);
  expect(report.look(look('transcribe', 15, { decode: 1.5, 'detect-speech': 2 }))).toEqual([
    { type: 'finished', stage: 'decode', seconds: 1.5 },
    { type: 'finished', stage: 'detect-speech', seconds: 2 },
    { type: 'started', stage: 'transcribe' },
  ]);
  expect(report.look(look('transcribe', 15, { decode: 1.5, 'detect-speech': 2 }))).toEqual([]);
  expect(report.look(look('transcribe', 40, { decode: 1.5, 'detect-speech': 2 }))).toEqual([
    { type: 'advanced', stage: 'transcribe', percent: 40 },
  ]);
  expect(report.look(look(null, 100, { decode: 1.5, 'detect-speech': 2, transcribe: 9 }))).toEqual([
    { type: 'finished', stage: 'transcribe', seconds: 9 },
  ]);
});

test('a stage that an interruption set back is not told as progress', () => {
  const report = new ProgressReport();
  report.look(look('transcribe', 40));
  expect(report.look(look('transcribe', 30))).toEqual([]);
  expect(report.look(look('transcribe', 40))).toEqual([]);
  expect(report.look(look('transcribe', 41))).toHaveLength(1);
});

test('the time that is left is guessed from the present stage alone', () => {
  const remaining = new RemainingTime();
  expect(remaining.seconds('detect speech', 10, 100)).toBeUndefined();
  expect(remaining.seconds('transcribe', 10, 100)).toBeUndefined();
  expect(remaining.seconds('transcribe', 11, 110)).toBeUndefined();
  expect(remaining.seconds('transcribe', 40, 130)).toBe(60);
});

test.each([
  [0, '0:00'],
  [59.6, '1:00'],
  [760, '12:40'],
  [3_723, '1:02:03'],
])('%d s reads %s', (seconds, text) => {
  expect(clock(seconds)).toBe(text);
});

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1_000, '1.0 kB'],
  [734_003_200, '734.0 MB'],
  [5e15, '5000.0 TB'],
])('%d bytes read %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});
