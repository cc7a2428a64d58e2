import type { Transcript } from '../transcript.ts';
import type { FormatOptions } from './format-options.ts';
import { subtitleCues } from './subtitle-cues.ts';
import { srtTimestamp } from './timestamp.ts';

export function* srt(transcript: Transcript, options: FormatOptions): Generator<string> {
  let number = 0;
  for (const { start, end, text } of subtitleCues(transcript, options, srtTimestamp)) {
    number += 1;
    yield `${number}\n${start} --> ${end}\n${text}\n\n`;
  }
}
