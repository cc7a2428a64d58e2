import type { Transcript } from '../transcript.ts';
import { strip, toMilliseconds } from './python-text.ts';

/** Start and end in milliseconds, and the text. Speakers have no column in WhisperX's form. */
export function* tsv(transcript: Transcript): Generator<string> {
  yield 'start\tend\ttext\n';
  for (const { start, end, text } of transcript.segments) {
    yield `${toMilliseconds(start)}\t${toMilliseconds(end)}\t${strip(text).replaceAll('\t', ' ')}\n`;
  }
}
