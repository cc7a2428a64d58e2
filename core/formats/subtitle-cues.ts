import type { Segment, Transcript, Word } from '../transcript.ts';
import { wordSeparator } from '../transcripts/word-separator.ts';
import type { FormatOptions } from './format-options.ts';
import { codePointLength, strip, underline } from './python-text.ts';
import { withSpeaker } from './speaker-label.ts';

/** Without a width, lines end only where a segment does, or when they are absurd. */
const DEFAULT_LINE_WIDTH = 1000;
/** A longer silence starts a new cue, when cues may cross the borders of segments. */
const LONG_PAUSE_SECONDS = 3;

export interface Cue {
  start: string;
  end: string;
  text: string;
}

type FormatTimestamp = (seconds: number) => string;

/** What stands on the screen at once. */
interface Block {
  /** The segment that its first word is from. */
  segment: Segment;
  /** Those that begin a line, except the first, start with a line break. */
  words: Word[];
}

/**
 * Subtitle cues, made from words where there are any, else from whole segments. The rules of WhisperX's writers:
 * given both a width and a number of lines, words flow on over segments; else each segment starts a cue.
 */
export function* subtitleCues(
  transcript: Transcript,
  options: FormatOptions,
  formatTimestamp: FormatTimestamp,
): Generator<Cue> {
  if (!transcript.segments.every((segment) => segment.words !== undefined)) {
    for (const segment of transcript.segments) {
      yield {
        start: formatTimestamp(segment.start),
        end: formatTimestamp(segment.end),
        text: withSpeaker(segment, strip(segment.text).replaceAll('-->', '->'), options),
      };
    }
    return;
  }
  const separator = wordSeparator(transcript.language, transcript.text);
  for (const block of blocks(transcript.segments, options)) {
    const texts = block.words.map((word) => word.word);
    const cue = {
      start: formatTimestamp(block.words.reduce((least, word) => Math.min(least, word.start), Infinity)),
      end: formatTimestamp(block.words.reduce((most, word) => Math.max(most, word.end), 0)),
      text: withSpeaker(block.segment, texts.join(separator), options),
    };
    if (options.highlight_words) yield* highlightedCues(block, texts, cue, options, formatTimestamp);
    else yield cue;
  }
}

/** One cue per word with the word underlined, and the plain text while nobody speaks. */
function* highlightedCues(
  { segment, words }: Block,
  texts: readonly string[],
  whole: Cue,
  options: FormatOptions,
  formatTimestamp: FormatTimestamp,
): Generator<Cue> {
  let shownUntil = whole.start;
  for (const [index, word] of words.entries()) {
    const start = formatTimestamp(word.start);
    const end = formatTimestamp(word.end);
    if (shownUntil !== start) yield { start: shownUntil, end: start, text: whole.text };
    // Here WhisperX puts spaces in every language.
    const text = texts.with(index, underline(word.word)).join(' ');
    yield { start, end, text: withSpeaker(segment, text, options) };
    shownUntil = end;
  }
}

function* blocks(segments: readonly Segment[], options: FormatOptions): Generator<Block> {
  const { max_line_width: width, max_line_count: maxLines } = options;
  const keepsSegments = width === undefined || maxLines === undefined;
  let block: Block | undefined;
  let lineLength = 0;
  let lines = 1;
  let lastStart = segments[0]?.start ?? 0;
  for (const segment of segments) {
    for (const [index, word] of (segment.words ?? []).entries()) {
      const isAfterPause = !keepsSegments && word.start - lastStart > LONG_PAUSE_SECONDS;
      const startsSegment = keepsSegments && index === 0 && block !== undefined;
      const length = codePointLength(word.word);
      const fits = lineLength + length <= (width ?? DEFAULT_LINE_WIDTH);
      lastStart = word.start;
      if (block !== undefined && lineLength > 0 && fits && !isAfterPause && !startsSegment) {
        lineLength += length;
        block.words.push(word);
        continue;
      }
      let text = strip(word.word);
      const isFull = maxLines !== undefined && (isAfterPause || lines >= maxLines);
      if (block !== undefined && (isFull || startsSegment)) {
        yield block;
        block = undefined;
        lines = 1;
      } else if (lineLength > 0) {
        lines += 1;
        text = `\n${text}`;
      }
      lineLength = codePointLength(strip(text));
      block ??= { segment, words: [] };
      block.words.push({ ...word, word: text });
    }
  }
  if (block !== undefined) yield block;
}
