import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { describeWithPython, runPython } from '../../tests/support/python.ts';
import { type Segment, Transcript } from '../transcript.ts';
import { FORMAT_NAMES, type FormatName, type FormatOptions } from './format-options.ts';
import { FORMATS, renderTranscript } from './formats.ts';

/** What Python and JavaScript see differently: white space, halves, characters beyond 16 bits, line ends. */
const oddText = fc.string({
  unit: fc.constantFrom(...' \t\n\r\v\x1c\x1f\x85\xa0\u2028\ufeffa>-.<$&é字😀'),
  maxLength: 8,
});
const text = fc.oneof(
  { weight: 4, arbitrary: fc.lorem({ maxCount: 1 }) },
  { weight: 2, arbitrary: oddText },
  { weight: 1, arbitrary: fc.string({ unit: 'grapheme', maxLength: 12 }) },
);
const gap = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 0, max: 900 }).map((ms) => ms / 1000) },
  { weight: 1, arbitrary: fc.double({ min: 0, max: 6, noNaN: true }) },
  { weight: 1, arbitrary: fc.constantFrom(0.0005, 0.0625, 0.4995, 2.9995, 3, 3.0005, 3601, 100 * 3600) },
);
/** Writers also meet words that overlap, end before they start, or come in the wrong order. */
const step = fc.oneof(
  { weight: 12, arbitrary: gap },
  { weight: 1, arbitrary: fc.integer({ min: -900, max: -1 }).map((ms) => ms / 1000) },
);
const word = fc.record({ gap: step, length: step, word: text });
const segment = fc.record({
  gap,
  tail: gap,
  text: fc.oneof(text, fc.lorem({ mode: 'sentences', maxCount: 1 })),
  speaker: fc.constantFrom(undefined, undefined, 'SPEAKER_00', 'SPEAKER_01'),
  words: fc.array(word, { maxLength: 25 }),
});

const transcripts: fc.Arbitrary<Transcript> = fc
  .record({
    language: fc.constantFrom('en', 'ja', 'zh', 'de', 'th'),
    hasWords: fc.boolean(),
    segments: fc.array(segment, { maxLength: 6 }),
  })
  .map(({ language, hasWords, segments }) => {
    let now = 0;
    const built = segments.map((raw, id): Segment => {
      now += raw.gap;
      const start = now;
      const words = raw.words.map((rawWord) => {
        const from = Math.max(0, now + rawWord.gap);
        now = Math.max(0, from + rawWord.length);
        return { word: rawWord.word, start: from, end: now };
      });
      now += raw.tail;
      return {
        id,
        start,
        end: now,
        text: raw.text,
        ...(raw.speaker !== undefined && { speaker: raw.speaker }),
        ...(hasWords && { words }),
      };
    });
    return { language, duration: now, text: '', words_from: null, segments: built, speakers: [] };
  });

const optionSets: fc.Arbitrary<FormatOptions> = fc.record({
  max_line_width: fc.option(fc.integer({ min: 1, max: 60 }), { nil: undefined }),
  max_line_count: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
  highlight_words: fc.boolean(),
});

describeWithPython('beside the writers of WhisperX', () => {
  test('srt, vtt, txt and tsv are the same, byte for byte', async () => {
    const cases = fc.sample(fc.tuple(transcripts, optionSets), { numRuns: 600, seed: 20_260_801 });
    const expected = (await runPython(
      'whisperx_writers.py',
      cases.map(([transcript, { max_line_width = null, max_line_count = null, highlight_words }]) => [
        transcript,
        { max_line_width, max_line_count, highlight_words },
      ]),
    )) as Record<FormatName, string>[];
    expect(expected).toHaveLength(cases.length);
    for (const [index, [transcript, options]] of cases.entries()) {
      for (const format of ['srt', 'vtt', 'txt', 'tsv'] as const) {
        const rendered = renderTranscript(transcript, format, options);
        if (rendered !== expected[index]?.[format]) {
          expect({ transcript, options, rendered }).toEqual({
            transcript,
            options,
            rendered: expected[index]?.[format],
          });
        }
      }
    }
  });
});

const two: Transcript = {
  language: 'en',
  duration: 3,
  text: 'Good morning. Hello.',
  words_from: 'alignment',
  segments: [
    {
      id: 0,
      start: 0.5,
      end: 1.25,
      text: 'Good morning.',
      speaker: 'SPEAKER_00',
      words: [
        { word: 'Good', start: 0.5, end: 0.75, score: 0.9, speaker: 'SPEAKER_00' },
        { word: 'morning.', start: 0.8, end: 1.25, score: 0.9, speaker: 'SPEAKER_00' },
      ],
    },
    {
      id: 1,
      start: 2,
      end: 2.5,
      text: 'Hello.',
      speaker: 'SPEAKER_01',
      words: [{ word: 'Hello.', start: 2, end: 2.5, score: 0.8, speaker: 'SPEAKER_01' }],
    },
  ],
  speakers: ['SPEAKER_00', 'SPEAKER_01'],
};

test('subtitles have numbers, times and speakers', () => {
  expect(renderTranscript(two, 'srt')).toBe(
    '1\n00:00:00,500 --> 00:00:01,250\n[SPEAKER_00]: Good morning.\n\n' +
      '2\n00:00:02,000 --> 00:00:02,500\n[SPEAKER_01]: Hello.\n\n',
  );
});

test('speaker_labels=false leaves the speakers out of every text format', () => {
  for (const format of FORMAT_NAMES.filter((name) => name !== 'json')) {
    const rendered = renderTranscript(two, format, { speaker_labels: false });
    expect(rendered).toContain('Hello.');
    expect(rendered).not.toContain('SPEAKER');
  }
});

test('json is the whole transcript, whatever the options', () => {
  const rendered = renderTranscript(two, 'json', { speaker_labels: false });
  expect(Transcript.parse(JSON.parse(rendered))).toEqual(two);
});

test('when only some segments have words, no text is lost', () => {
  const [first, second] = two.segments as [Segment, Segment];
  const { words: _, ...wordless } = second;
  expect(renderTranscript({ ...two, segments: [first, wordless] }, 'vtt')).toContain('[SPEAKER_01]: Hello.');
});

test('a transcript without speech is an empty file of its format', () => {
  const empty: Transcript = { ...two, text: '', segments: [], speakers: [] };
  expect(renderTranscript(empty, 'srt')).toBe('');
  expect(renderTranscript(empty, 'vtt')).toBe('WEBVTT\n\n');
  expect(renderTranscript(empty, 'txt')).toBe('');
  expect(renderTranscript(empty, 'tsv')).toBe('start\tend\ttext\n');
});

test('every format has a content type with its encoding, and its name as extension', () => {
  for (const name of FORMAT_NAMES) {
    expect(FORMATS[name].contentType).toMatch(/^\w+\/[\w-]+; charset=utf-8$/);
    expect(FORMATS[name].extension).toBe(`.${name}`);
  }
});
