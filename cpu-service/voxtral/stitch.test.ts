import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { FormatName } from '../../core/formats/format-options.ts';
import { FORMATS, renderTranscript } from '../../core/formats/formats.ts';
import { SAMPLE_RATE } from '../../core/sample-rate.ts';
import { Transcript } from '../../core/transcript.ts';
import type { AnsweredPiece, AudioPiece } from './answered-piece.ts';
import { stitch } from './stitch.ts';

type Segment = AnsweredPiece['segments'][number];

const piece = (from: number, to: number, channel = 0): AudioPiece => ({
  key: 'k',
  channel,
  from: from * SAMPLE_RATE,
  to: to * SAMPLE_RATE,
});
const word = (
  text: string,
  start: number | null,
  end: number | null,
  speaker: string | null = null,
): Segment => ({
  text,
  start,
  end,
  score: null,
  speaker,
});
const answer = (index: number, segments: Segment[], more: Partial<AnsweredPiece> = {}): AnsweredPiece => ({
  index,
  text: segments.map(({ text }) => text.trim()).join(' '),
  language: null,
  segments,
  lacks_words: false,
  ...more,
});
const WORDS = { wordTimestamps: true, diarize: false, channels: 'mix' } as const;
const SEGMENTS = { ...WORDS, wordTimestamps: false } as const;

/** Whatever the API says about times, and words of any kind. */
const anyTime = fc.option(fc.double({ min: -50, max: 200, noNaN: true }), { nil: null });
const anyWord = fc.record({
  text: fc.stringMatching(/^ ?[A-Za-zé.,!?-]{1,6}$/),
  start: anyTime,
  end: anyTime,
  score: fc.constant(null),
  speaker: fc.constant(null),
});

test('no word is lost, doubled or moved past another, whatever times come back, and all of them lie in their piece', () => {
  const answers = fc.array(fc.array(anyWord, { maxLength: 12 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(answers, fc.boolean(), (spoken, wordTimestamps) => {
      const pieces = spoken.map((_, index) => piece(index * 10, (index + 1) * 10));
      // In the order in which they happened to be answered.
      const answered = spoken.map((words, index) => answer(index, words)).toReversed();
      const transcript = stitch(pieces, answered, { ...WORDS, wordTimestamps });
      Transcript.parse(transcript);
      const said = spoken.flat().map(({ text }) => text.trim());
      const { segments } = transcript;
      const heard = wordTimestamps
        ? segments.flatMap(({ words = [] }) => words.map((one) => one.word))
        : segments.map(({ text }) => text);
      expect(heard).toEqual(said);
      expect(segments.map(({ text }) => text).join(' ')).toBe(said.join(' '));
      expect(transcript.text).toBe(said.join(' '));
      let time = 0;
      for (const { start, end, words = [] } of segments) {
        expect(start).toBeGreaterThanOrEqual(time);
        time = start;
        for (const one of words) {
          expect(one.start).toBeGreaterThanOrEqual(time);
          expect(one.end).toBeGreaterThanOrEqual(one.start);
          expect(one.end).toBeLessThanOrEqual(end);
          time = one.start;
        }
        time = end;
      }
      expect(time).toBeLessThanOrEqual(transcript.duration);
    }),
  );
});

describe('segments', () => {
  const textsOf = (words: Segment[], text?: string) =>
    stitch([piece(0, 60)], [answer(0, words, text === undefined ? {} : { text })], WORDS).segments.map(
      (segment) => segment.text,
    );

  test('end with a sentence, at a pause, and before they get too long', () => {
    expect(
      textsOf([
        word('Hello', 0, 0.4),
        word('Mr.', 0.4, 0.6),
        word('Smith.', 0.6, 1),
        word('Is', 1, 1.2),
        word('it', 1.2, 1.4),
        word('U.S.', 1.4, 1.6),
        word('made?', 1.6, 2),
        word('well', 3.5, 4),
        word('no', 4, 33),
        word('more', 33, 35),
      ]),
    ).toEqual(['Hello Mr. Smith.', 'Is it U.S. made?', 'well no', 'more']);
  });

  test('are written as the text is, with what stands between the words and without spaces where it has none', () => {
    expect(textsOf([word('well', 0, 1), word('-known', 1, 2), word('!', 2, 2)], 'well-known!')).toEqual([
      'well-known!',
    ]);
    expect(textsOf([word('今日', 0, 1), word('は', 1, 2), word('。', 2, 2)], '今日は。')).toEqual([
      '今日は。',
    ]);
  });

  test('of a text that came without any hold all of it', () => {
    const transcript = stitch([piece(10, 20)], [answer(0, [], { text: 'Hello there.' })], WORDS);
    expect(transcript.segments).toMatchObject([
      {
        start: 10,
        end: 20,
        text: 'Hello there.',
        words: [{ word: 'Hello', interpolated: true }, { word: 'there.' }],
      },
    ]);
  });
});

test('each piece has speakers of its own, named in the order in which they are heard', () => {
  const said = [word('A.', 0, 1, 'speaker_2'), word('B.', 1, 2, 'speaker_1'), word('C.', 2, 3, 'speaker_2')];
  const transcript = stitch([piece(0, 10), piece(10, 20)], [answer(0, said), answer(1, said)], {
    ...SEGMENTS,
    diarize: true,
  });
  expect(transcript.segments.map(({ speaker }) => speaker)).toEqual(
    ['00', '01', '00', '02', '03', '02'].map((n) => `SPEAKER_${n}`),
  );
  expect(transcript.speakers).toHaveLength(4);
});

test('channels run at the same time, each a speaker', () => {
  const pieces = [piece(0, 10), piece(10, 20), piece(0, 10, 1), piece(10, 20, 1)];
  const answers = pieces.map((_, index) => answer(index, [word(`w${index}.`, index, index + 0.5)]));
  const { segments, duration } = stitch(pieces, answers, { ...WORDS, channels: 'separate' });
  expect(duration).toBe(20);
  expect(segments.map(({ start, text, speaker }) => `${start} ${text} ${speaker}`)).toEqual([
    '0 w0. SPEAKER_00',
    '2 w2. SPEAKER_01',
    '11 w1. SPEAKER_00',
    '13 w3. SPEAKER_01',
  ]);
});

test.each([7, 8, 31])(
  'channels are told apart by where words come from, not by when (%p samples more)',
  (more) => {
    const to = 10 * SAMPLE_RATE + more;
    const pieces = [0, 1, 2].map((channel) => ({ ...piece(0, 10, channel), to }));
    const answers = pieces.map((_, index) =>
      answer(index, [word(`first${index}.`, 0, 1), word(`late${index}.`, 10.02, 10.4)]),
    );
    for (const options of [WORDS, SEGMENTS]) {
      const { segments, speakers } = stitch(pieces, answers, { ...options, channels: 'separate' });
      expect(segments.map(({ text, speaker, start }) => [text, speaker, start < 5])).toEqual([
        ...[0, 1, 2].map((n) => [`first${n}.`, `SPEAKER_0${n}`, true]),
        ...[0, 1, 2].map((n) => [`late${n}.`, `SPEAKER_0${n}`, false]),
      ]);
      expect(speakers).toEqual(['SPEAKER_00', 'SPEAKER_01', 'SPEAKER_02']);
    }
  },
);

describe('in a language without spaces that nobody names', () => {
  test.each([
    ['Chinese', '今天天气很好。', '我们去公园吧。'],
    ['Japanese', '今日はいい天気です。', '散歩に行きましょう。'],
    ['Thai', 'วันนี้อากาศดี', 'เราไปสวนกันเถอะ'],
  ])('%s, words stay what they came as', (_, first, second) => {
    const said = [...first].map((text, n) => word(text, n, n + 0.9));
    said.push(...[...second].map((text, n) => word(text, n + first.length + 2, n + first.length + 2.9)));
    const pieces = [piece(0, 60), piece(60, 120)];
    const text = first + second;
    const answers = [0, 1].map((index) => answer(index, said, { text }));
    const transcript = stitch(pieces, answers, WORDS);
    expect(transcript.segments.map((segment) => segment.text)).toEqual([first, second, first, second]);
    expect(transcript.segments.flatMap(({ words = [] }) => words)).toHaveLength(2 * said.length);
    expect(transcript.text).toBe(text + text);
    expect(renderTranscript(transcript, 'srt')).toContain(first);
  });

  test('what comes without words is cut into characters', () => {
    const { segments } = stitch([piece(0, 10)], [answer(0, [], { text: '今天天气' })], WORDS);
    expect(segments.flatMap(({ words = [] }) => words)).toHaveLength(4);
  });
});

test.each<[string, (string | null)[]]>([
  ['und', [null, null]],
  ['en', [null, 'English']],
  ['de', ['de-AT', 'de']],
  ['fr', ['de', 'fr', 'fr']],
  ['und', ['klingon']],
])('the language is %s of %j', (language, said) => {
  const pieces = said.map((_, index) => piece(index * 10, (index + 1) * 10));
  const answers = said.map((code, index) => answer(index, [word('a', 0, 1)], { language: code }));
  expect(stitch(pieces, answers, SEGMENTS).language).toBe(language);
});

test('every format is rendered, with and without words', () => {
  for (const options of [WORDS, SEGMENTS]) {
    const transcript = stitch([piece(0, 10)], [answer(0, [word('Hello.', 1, 2)])], options);
    for (const format of Object.keys(FORMATS) as FormatName[]) {
      expect(renderTranscript(transcript, format)).toContain('Hello.');
    }
  }
});
