import type { Segment } from '../transcript.ts';
import type { FormatOptions } from './format-options.ts';

export function withSpeaker({ speaker }: Segment, text: string, options: FormatOptions): string {
  return speaker === undefined || options.speaker_labels === false ? text : `[${speaker}]: ${text}`;
}
