import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { renderTranscript } from '../core/formats/formats.ts';
import { Transcript } from '../core/transcript.ts';
import type { RawSegment } from '../core/transcripts/raw-segment.ts';
import { buildTranscript, type TranscriptParts } from './build-transcript.ts';
import type { AlignedChunk, SpeakerTurn, TranscribedChunk } from './supervisor/protocol.ts';

const chunks: TranscribedChunk[] = [
  {
    start: 0.5,
    end: 3,
    text: ' Good morning. Bye.',
    avg_logprob: -0.2,
    segments: [
      {
        start: 0.6,
        end: 1.4,
        text: ' Good morning.',
        words: [
          { word: ' Good', start: 0.6, end: 0.9, score: 0.9 },
          { word: ' morning.', start: 0.9, end: 1.4, score: 0.8 },
        ],
      },
      { start: 2, end: 2.5, text: ' Bye.', words: [{ word: ' Bye.', start: 2, end: 2.5, score: 0.7 }] },
    ],
  },
  {
    start: 5,
    end: 6,
    text: 'Really?',
    avg_logprob: -0.3,
    segments: [
      { start: 5, end: 6, text: 'Really?', words: [{ word: 'Really?', start: 5, end: 6, score: 0.6 }] },
    ],
  },
];

const aligned: AlignedChunk[] = [
  {
    segments: [
      {
        start: 0.7,
        end: 1.3,
        text: 'Good morning.',
        words: [
          { word: 'Good', start: 0.7, end: 0.8, score: 0.5 },
          { word: 'morning.', start: null, end: null, score: null },
        ],
      },
      { start: 2.1, end: 2.4, text: 'Bye.', words: [{ word: 'Bye.', start: 2.1, end: 2.4, score: 0.4 }] },
    ],
  },
  {
    segments: [
      {
        start: 5,
        end: 6,
        text: 'Really?',
        words: [{ word: 'Really?', start: null, end: null, score: null }],
      },
    ],
  },
];

const parts: TranscriptParts = { chunks, language: 'en', durationSeconds: 6.0004, wordTimestamps: true };

test('segments are counted through, and the text is that of all chunks', () => {
  const transcript = buildTranscript(parts);
  expect(transcript).toMatchObject({ language: 'en', duration: 6, words_from: 'attention', speakers: [] });
  expect(transcript.text).toBe('Good morning. Bye. Really?');
  expect(transcript.segments.map(({ id, text, start, end }) => ({ id, text, start, end }))).toEqual([
    { id: 0, text: 'Good morning.', start: 0.6, end: 1.4 },
    { id: 1, text: 'Bye.', start: 2, end: 2.5 },
    { id: 2, text: 'Really?', start: 5, end: 6 },
  ]);
  expect(transcript.segments[0]?.words).toEqual([
    { word: 'Good', start: 0.6, end: 0.9, score: 0.9 },
    { word: 'morning.', start: 0.9, end: 1.4, score: 0.8 },
  ]);
});

test('alignment gives the words, and cross-attention those of chunks that could not be aligned', () => {
  const transcript = buildTranscript({ ...parts, aligned });
  expect(transcript.words_from).toBe('alignment');
  expect(transcript.segments.flatMap(({ words }) => words)).toEqual([
    { word: 'Good', start: 0.7, end: 0.8, score: 0.5 },
    { word: 'morning.', start: 0.8, end: 1.3, interpolated: true },
    { word: 'Bye.', start: 2.1, end: 2.4, score: 0.4 },
    { word: 'Really?', start: 5, end: 6, score: 0.6 },
  ]);
});

test('when nothing could be aligned, the words are from cross-attention', () => {
  const transcript = buildTranscript({ ...parts, aligned: [{ segments: [] }, aligned[1]] });
  expect(transcript).toEqual(buildTranscript(parts));
});

test('without word times there are only segments', () => {
  const transcript = buildTranscript({ ...parts, aligned, wordTimestamps: false });
  expect(transcript.words_from).toBeNull();
  expect(transcript.segments).toHaveLength(3);
  for (const segment of transcript.segments) expect(segment).not.toHaveProperty('words');
});

test('speakers are named in the order in which they are heard', () => {
  const turns: SpeakerTurn[] = [
    { start: 0, end: 1.7, speaker: 'SPEAKER_01' },
    { start: 1.9, end: 6, speaker: 'SPEAKER_00' },
  ];
  const transcript = buildTranscript({ ...parts, turns });
  expect(transcript.speakers).toEqual(['SPEAKER_01', 'SPEAKER_00']);
  expect(renderTranscript(transcript, 'txt')).toBe(
    '[SPEAKER_01]: Good morning.\n[SPEAKER_00]: Bye.\n[SPEAKER_00]: Really?\n',
  );
});

test('a recording without speech has an empty transcript', () => {
  expect(buildTranscript({ ...parts, chunks: [], aligned: [], turns: [] })).toEqual({
    language: 'en',
    duration: 6,
    text: '',
    words_from: null,
    segments: [],
    speakers: [],
  });
});

test('in languages without spaces, chunks are joined without any', () => {
  const said = ['你好。', '再见。'].map((text, index) => ({
    start: index,
    end: index + 1,
    text,
    avg_logprob: 0,
    segments: [{ start: index, end: index + 1, text, words: null }],
  }));
  const transcript = buildTranscript({ ...parts, chunks: said, language: 'zh' });
  expect(transcript.text).toBe('你好。再见。');
  expect(transcript.segments[1]?.words?.map(({ word }) => word)).toEqual(['再', '见', '。']);
});

test('a chunk whose segments are missing is in the segments too', () => {
  const transcript = buildTranscript({
    ...parts,
    chunks: [{ ...(chunks[1] as TranscribedChunk), segments: [] }],
  });
  expect(renderTranscript(transcript, 'srt')).toBe('1\n00:00:05,000 --> 00:00:06,000\nReally?\n\n');
});

const anyTime = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: -500, max: 12_000 }).map((ms) => ms / 1000) },
  { weight: 1, arbitrary: fc.double() },
);
const anyText = fc.oneof(fc.lorem({ maxCount: 3 }), fc.string({ unit: 'grapheme' }));
const anySegment: fc.Arbitrary<RawSegment> = fc.record({
  start: anyTime,
  end: anyTime,
  text: anyText,
  words: fc.option(
    fc.array(
      fc.record({
        word: anyText,
        start: fc.option(anyTime),
        end: fc.option(anyTime),
        score: fc.option(fc.double()),
      }),
    ),
  ),
});
const anyChunk: fc.Arbitrary<TranscribedChunk> = fc.record({
  start: anyTime,
  end: anyTime,
  text: anyText,
  avg_logprob: fc.double(),
  segments: fc.array(anySegment, { maxLength: 4 }),
});
const anyTurn: fc.Arbitrary<SpeakerTurn> = fc
  .record({ start: fc.nat(10), length: fc.nat(5), speaker: fc.constantFrom('SPEAKER_00', 'SPEAKER_01') })
  .map(({ start, length, speaker }) => ({ start, end: start + length, speaker }));
const anyParts: fc.Arbitrary<TranscriptParts> = fc.record({
  chunks: fc.array(anyChunk, { maxLength: 5 }),
  aligned: fc.option(fc.array(fc.record({ segments: fc.array(anySegment, { maxLength: 4 }) })), {
    nil: undefined,
  }),
  turns: fc.option(fc.array(anyTurn), { nil: undefined }),
  language: fc.constantFrom('en', 'ja', 'th'),
  durationSeconds: fc.double({ min: 0, max: 12, noNaN: true }),
  wordTimestamps: fc.boolean(),
});

test('whatever the models say, the transcript is valid, its times are in order, and it can be rendered', () => {
  fc.assert(
    fc.property(anyParts, (all) => {
      const transcript = buildTranscript(all);
      const { segments, duration, speakers } = Transcript.parse(JSON.parse(JSON.stringify(transcript)));
      let segmentEnd = 0;
      let wordEnd = 0;
      for (const [index, segment] of segments.entries()) {
        expect(segment.id).toBe(index);
        expect(segment.text).not.toBe('');
        expect(segment.start).toBeGreaterThanOrEqual(segmentEnd);
        expect(segment.end).toBeGreaterThanOrEqual(segment.start);
        expect(segment.words !== undefined).toBe(all.wordTimestamps);
        segmentEnd = segment.end;
        for (const word of segment.words ?? []) {
          expect(word.start).toBeGreaterThanOrEqual(Math.max(wordEnd, segment.start));
          expect(word.end).toBeGreaterThanOrEqual(word.start);
          expect(word.end).toBeLessThanOrEqual(segment.end);
          wordEnd = word.end;
        }
        for (const { speaker } of [segment, ...(segment.words ?? [])]) {
          if (all.turns === undefined || all.turns.length === 0) expect(speaker).toBeUndefined();
          else expect(speakers).toContain(speaker);
        }
      }
      expect(segmentEnd).toBeLessThanOrEqual(duration);
      renderTranscript(transcript, 'srt', { highlight_words: true });
    }),
  );
});
