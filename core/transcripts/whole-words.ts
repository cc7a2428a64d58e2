import type { RawSegment, RawWord } from './raw-segment.ts';
import { wordSeparator } from './word-separator.ts';

/**
 * The words of a segment as WhisperX counts them: what stands between spaces, or single characters in languages
 * without spaces. Cross-attention gives smaller pieces ("well", "-known"), between which subtitles would show spaces.
 * A segment that came without words gets those of its text, without times: subtitles must not leave it out.
 */
export function wholeWords(segment: RawSegment, language: string): RawWord[] {
  const pieces = (segment.words ?? []).filter(({ word }) => word.trim() !== '');
  const areSpaced = wordSeparator(language, segment.text) !== '';
  if (pieces.length === 0) return wordsOfText(segment.text, areSpaced);
  const words: RawWord[] = [];
  let end = 0;
  for (const piece of pieces) {
    const next = { ...piece, word: piece.word.trim() };
    const start = segment.text.indexOf(next.word, end);
    const last = words.at(-1);
    if (last !== undefined && end > 0 && start === end && areSpaced) {
      words[words.length - 1] = join(last, next);
    } else {
      words.push(next);
    }
    if (start !== -1) end = start + next.word.length;
  }
  return words;
}

function wordsOfText(text: string, areSpaced: boolean): RawWord[] {
  const words = text.split(/\s+/).flatMap((word) => (areSpaced ? [word] : [...word]));
  return words.filter((word) => word !== '').map((word) => ({ word, start: null, end: null, score: null }));
}

function join(one: RawWord, other: RawWord): RawWord {
  return {
    word: one.word + other.word,
    start: one.start ?? other.start,
    end: other.end ?? one.end,
    // The less sure of both: a mean would hide a doubtful half.
    score:
      one.score === null || other.score === null
        ? (one.score ?? other.score)
        : Math.min(one.score, other.score),
  };
}
