import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Segment } from '../core/transcript.ts';
import { describeWithPython, runPython } from '../tests/support/python.ts';
import { assignSpeakers } from './assign-speakers.ts';
import type { SpeakerTurn } from './supervisor/protocol.ts';

const ms = (most: number) => fc.integer({ min: 0, max: most }).map((value) => value / 1000);

const turn: fc.Arbitrary<SpeakerTurn> = fc
  .record({
    start: ms(20_000),
    length: fc.oneof(ms(3000), ms(20_000)),
    speaker: fc.integer({ min: 0, max: 3 }),
  })
  .map(({ start, length, speaker }) => ({ start, end: start + length, speaker: `SPEAKER_0${speaker}` }));

/** Turns that begin, end or lie alike tell whether the first is taken. */
const turns = fc
  .tuple(fc.array(turn, { minLength: 1, maxLength: 12 }), fc.nat(3))
  .map(([all, copies]) => [
    ...all,
    ...all.slice(0, copies).map((one) => ({ ...one, speaker: 'SPEAKER_09' })),
  ]);

const segments: fc.Arbitrary<Segment[]> = fc
  .array(fc.array(fc.record({ gap: ms(1200), length: ms(900) }), { maxLength: 8 }), { maxLength: 6 })
  .map((all) => {
    let now = 0;
    return all.map((words, id) => {
      const timed = words.map(({ gap, length }) => {
        const start = now + gap;
        now = start + length;
        return { word: 'word', start, end: now };
      });
      const start = timed[0]?.start ?? now;
      return { id, start, end: now, text: '', words: timed };
    });
  });

describeWithPython('beside the speaker assignment of WhisperX', () => {
  test('every segment and every word gets the same speaker', async () => {
    const cases = fc.sample(fc.record({ segments, turns }), { numRuns: 400, seed: 20_260_802 });
    const expected = (await runPython('whisperx_speakers.py', cases)) as Segment[][];
    expect(expected).toHaveLength(cases.length);
    for (const [index, one] of cases.entries()) {
      expect({ ...one, segments: assignSpeakers(one.segments, one.turns) }).toEqual({
        ...one,
        segments: expected[index],
      });
    }
  });
});

const spoken = (start: number, end: number): Segment => ({
  id: 0,
  start,
  end,
  text: 'a',
  words: [{ word: 'a', start, end }],
});

test('the speaker who talks most during a word has it, over all their turns', () => {
  const said: SpeakerTurn[] = [
    { start: 0, end: 0.4, speaker: 'SPEAKER_01' },
    { start: 0.4, end: 0.7, speaker: 'SPEAKER_00' },
    { start: 0.7, end: 1, speaker: 'SPEAKER_00' },
  ];
  expect(assignSpeakers([spoken(0, 1)], said)[0]?.words?.[0]?.speaker).toBe('SPEAKER_00');
});

test('a word during which nobody talks has the nearest speaker', () => {
  const said: SpeakerTurn[] = [
    { start: 0, end: 1, speaker: 'SPEAKER_01' },
    { start: 5, end: 6, speaker: 'SPEAKER_00' },
  ];
  expect(assignSpeakers([spoken(4, 4.5)], said)[0]).toMatchObject({
    speaker: 'SPEAKER_00',
    words: [{ speaker: 'SPEAKER_00' }],
  });
});

test('without turns there are no speakers', () => {
  const before = [spoken(0, 1)];
  expect(assignSpeakers(before, [])).toEqual(before);
});

test('segments without words get a speaker and no words', () => {
  const { words: _, ...wordless } = spoken(0, 1);
  const said = [{ start: 0, end: 1, speaker: 'SPEAKER_00' }];
  expect(assignSpeakers([wordless], said)).toEqual([{ ...wordless, speaker: 'SPEAKER_00' }]);
});

test('ten hours with a turn every two seconds take less than two seconds', () => {
  const said = Array.from({ length: 18_000 }, (_, index) => ({
    start: index * 2,
    end: index * 2 + 1,
    speaker: `SPEAKER_0${index % 4}`,
  }));
  const words = Array.from({ length: 120_000 }, (_, index) => ({
    word: 'a',
    start: index * 0.3,
    end: index * 0.3 + 0.2,
  }));
  const startedMs = performance.now();
  assignSpeakers([{ id: 0, start: 0, end: 36_000, text: 'a', words }], said);
  expect(performance.now() - startedMs).toBeLessThan(2_000);
});
