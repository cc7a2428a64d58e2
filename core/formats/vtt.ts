import type { Transcript } from '../transcript.ts';
import type { FormatOptions } from './format-options.ts';
import { subtitleCues } from './subtitle-cues.ts';
import { vttTimestamp } from './timestamp.ts';

export function* vtt(transcript: Transcript, options: FormatOptions): Generator<string> {
  yield 'WEBVTT\n\n';
  for (const { start, end, text } of subtitleCues(transcript, options, vttTimestamp)) {
    yield `${start} --> ${end}\n${text}\n\n`;
  }
}
