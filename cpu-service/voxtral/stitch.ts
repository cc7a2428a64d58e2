import { UNKNOWN_LANGUAGE, WHISPER_LANGUAGES } from '../../core/languages.ts';
import { SAMPLE_RATE } from '../../core/sample-rate.ts';
import { toTheMillisecond } from '../../core/to-the-millisecond.ts';
import type { Segment, Transcript } from '../../core/transcript.ts';
import type { RawWord } from '../../core/transcripts/raw-segment.ts';
import { asSaid, channelSpeaker } from '../../core/transcripts/separate-channels.ts';
import { wholeWords } from '../../core/transcripts/whole-words.ts';
import { wordSeparator } from '../../core/transcripts/word-separator.ts';
import { completeWordTimes, type Span, settleTimes } from '../../core/transcripts/word-times.ts';
import type { AnsweredPiece, AudioPiece } from './answered-piece.ts';
import { groupWords } from './group-words.ts';

export interface StitchOptions {
  wordTimestamps: boolean;
  diarize: boolean;
  channels: 'mix' | 'separate';
}

/**
 * One transcript of what came back for the pieces. Each lies in its own part of the recording whatever times it has, so
 * no word is lost or doubled where two meet, and times never run backwards.
 */
export function stitch(
  pieces: readonly AudioPiece[],
  answers: readonly AnsweredPiece[],
  { wordTimestamps, diarize, channels }: StitchOptions,
): Transcript {
  const language = languageOf(pieces, answers);
  const answered = new Map(answers.map((answer) => [answer.index, answer]));
  const durationSeconds = Math.max(0, ...pieces.map(({ to }) => to)) / SAMPLE_RATE;
  const name = new SpeakerNames();
  const texts: string[] = [];
  const segments: Segment[] = [];
  for (const [index, piece] of pieces.entries()) {
    const answer = answered.get(index);
    if (answer === undefined) throw new TypeError(`piece ${index} has no answer`);
    if (answer.text.trim() !== '') texts.push(answer.text.trim());
    const within = { start: piece.from / SAMPLE_RATE, end: piece.to / SAMPLE_RATE };
    for (const { speaker, ...segment } of segmentsOf(answer, within, wordTimestamps, language)) {
      const id = segments.length;
      if (channels === 'separate')
        segments.push({ id, ...ofSpeaker(segment, channelSpeaker(piece.channel)) });
      else if (diarize && speaker !== undefined)
        segments.push({ id, ...segment, speaker: name.of(index, speaker) });
      else segments.push({ id, ...segment });
    }
  }
  const joined: Transcript = {
    language,
    duration: toTheMillisecond(durationSeconds),
    text: texts.join(wordSeparator(language, texts.join(' '))),
    words_from: wordTimestamps && segments.length > 0 ? 'model' : null,
    segments,
    speakers: [...new Set(segments.map(({ speaker }) => speaker))].filter((one) => one !== undefined),
  };
  return channels === 'separate' ? asSaid(joined) : joined;
}

type UnnamedSegment = Omit<Segment, 'id'>;

function ofSpeaker(segment: UnnamedSegment, speaker: string): UnnamedSegment {
  const { words } = segment;
  return { ...segment, speaker, ...(words && { words: words.map((word) => ({ ...word, speaker })) }) };
}

function segmentsOf(
  answer: AnsweredPiece,
  within: Span,
  wordTimestamps: boolean,
  language: string,
): UnnamedSegment[] {
  const found = answer.segments.filter(({ text }) => text.trim() !== '');
  const parts = found.map(({ text, start, end, score, speaker }) => ({
    text: text.trim(),
    start: start === null ? null : start + within.start,
    end: end === null ? null : end + within.start,
    score,
    speaker,
  }));
  if (!wordTimestamps) {
    // Nothing of the text may be missing from the segments. Words are made from it anyway.
    if (parts.length === 0 && answer.text.trim() !== '') {
      parts.push({ text: answer.text.trim(), start: null, end: null, score: null, speaker: null });
    }
    const times = settleTimes(parts, within);
    return parts.map(({ text, speaker }, index) => {
      const { start, end } = times[index] as Span;
      return { start, end, text, ...(speaker !== null && { speaker }) };
    });
  }
  // Times in order first, so that pauses are those that will be seen.
  const times = settleTimes(parts, within);
  const words = wholeWords(
    {
      ...within,
      text: answer.text,
      words: parts.flatMap(({ text, score, start, end }, index) => {
        const { start: from, end: to } = times[index] as Span;
        const untimed = text
          .split(/\s+/)
          .map((word): RawWord => ({ word, start: null, end: null, score: null }));
        if (start === null || end === null) return untimed;
        if (untimed.length === 1) return [{ word: text, start: from, end: to, score }];
        // What came as one word and is several shares its time.
        const shared = settleTimes(untimed, { start: from, end: to });
        return untimed.map((word, at) => ({ ...word, ...spanOf(shared[at] as Span) }));
      }),
    },
    language,
  );
  const groups = groupWords(words);
  const complete = completeWordTimes({ ...within, text: answer.text, words });
  const reader = new TextReader(answer.text, language);
  let done = 0;
  return groups.map((group) => {
    const settled = complete.slice(done, done + group.length);
    done += group.length;
    return {
      start: settled[0]?.start as number,
      end: settled.at(-1)?.end as number,
      text: reader.read(group.map(({ word }) => word)),
      words: settled,
    };
  });
}

/** Reads the words of a piece from its text, so that what stands between them is as the model wrote it. */
class TextReader {
  readonly #text: string;
  readonly #separator: string;
  #at = 0;

  constructor(text: string, language: string) {
    this.#text = text;
    this.#separator = wordSeparator(language, text);
  }

  read(words: readonly string[]): string {
    const joined = words.join(this.#separator);
    let from: number | undefined;
    let at = this.#at;
    for (const word of words) {
      const found = this.#text.indexOf(word, at);
      // Not where it should be: the text is not made of these words.
      if (found === -1 || this.#text.slice(at, found).trim() !== '') return joined;
      from ??= found;
      at = found + word.length;
    }
    this.#at = at;
    return this.#text.slice(from, at).replace(/\s+/g, ' ');
  }
}

/** Names of its own for every piece: nobody knows whether the first speaker of one is also in another. */
class SpeakerNames {
  readonly #names = new Map<string, string>();

  of(piece: number, speaker: string): string {
    const key = `${piece} ${speaker}`;
    let name = this.#names.get(key);
    if (name === undefined) {
      name = `SPEAKER_${String(this.#names.size).padStart(2, '0')}`;
      this.#names.set(key, name);
    }
    return name;
  }
}

/** That of the most audio, as a code if it is one that we know. */
function languageOf(pieces: readonly AudioPiece[], answers: readonly AnsweredPiece[]): string {
  const samples = new Map<string, number>();
  for (const { index, language } of answers) {
    const piece = pieces[index];
    const code = language === null ? undefined : codeOf(language);
    if (piece === undefined || code === undefined) continue;
    samples.set(code, (samples.get(code) ?? 0) + piece.to - piece.from);
  }
  const [most] = [...samples].toSorted(([, one], [, other]) => other - one);
  return most?.[0] ?? UNKNOWN_LANGUAGE;
}

/** `en`, `EN-us` and `English` are the same. */
function codeOf(language: string): string | undefined {
  const name = language.trim().toLowerCase();
  const code = name.split(/[-_]/)[0] as string;
  if (WHISPER_LANGUAGES.has(code)) return code;
  return [...WHISPER_LANGUAGES].find(([, english]) => english === name)?.[0];
}

function spanOf({ start, end }: Span): Span {
  return { start, end };
}
