import type { RawWord } from '../../core/transcripts/raw-segment.ts';

/** A silence that ends a segment, whatever was said. */
const PAUSE_SECONDS = 1;
/** Nobody reads a longer one at once. */
const MAX_SECONDS = 30;

const SENTENCE_END = /[.!?…。！？؟।][\p{Pe}\p{Pf}"'”’»]*$/u;
/** A title or an initial: its full stop ends no sentence. */
const ABBREVIATION = /^\P{L}*(?:\p{Lu}|Mr|Mrs|Ms|Dr|St|Prof|Jr|Sr|vs)\.$/u;

/** The words of a piece in segments of about a sentence each: no word is lost, none moved. */
export function groupWords(words: readonly RawWord[]): RawWord[][] {
  const groups: RawWord[][] = [];
  let group: RawWord[] = [];
  for (const [index, word] of words.entries()) {
    group.push(word);
    const next = words[index + 1];
    if (next === undefined || endsSegment(group, word, next)) {
      groups.push(group);
      group = [];
    }
  }
  return groups;
}

function endsSegment(group: readonly RawWord[], word: RawWord, next: RawWord): boolean {
  const pause = (next.start ?? Number.NaN) - (word.end ?? Number.NaN);
  if (pause >= PAUSE_SECONDS) return true;
  const start = group.find((one) => one.start !== null)?.start ?? Number.NaN;
  if ((next.end ?? Number.NaN) - start > MAX_SECONDS) return true;
  // What goes on in lower case is the same sentence.
  return SENTENCE_END.test(word.word) && !ABBREVIATION.test(word.word) && !/^\p{Ll}/u.test(next.word);
}
