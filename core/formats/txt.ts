import type { Transcript } from '../transcript.ts';
import type { FormatOptions } from './format-options.ts';
import { strip } from './python-text.ts';
import { withSpeaker } from './speaker-label.ts';

/** One line per segment. */
export function* txt(transcript: Transcript, options: FormatOptions): Generator<string> {
  for (const segment of transcript.segments) {
    yield `${withSpeaker(segment, strip(segment.text), options)}\n`;
  }
}
