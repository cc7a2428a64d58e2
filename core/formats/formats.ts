import type { Transcript } from '../transcript.ts';
import type { FormatName, FormatOptions } from './format-options.ts';
import { srt } from './srt.ts';
import { tsv } from './tsv.ts';
import { txt } from './txt.ts';
import { vtt } from './vtt.ts';

interface Format {
  contentType: string;
  /** With the dot. */
  extension: string;
  /** In pieces, so that a long transcript need not be held as a whole: word highlighting repeats its text often. */
  render(transcript: Transcript, options: FormatOptions): Iterable<string>;
}

/** All but json are equal, byte for byte, to what WhisperX's own writers make of the same result. */
export const FORMATS = {
  json: {
    contentType: 'application/json; charset=utf-8',
    extension: '.json',
    render: (transcript) => [`${JSON.stringify(transcript)}\n`],
  },
  srt: { contentType: 'application/x-subrip; charset=utf-8', extension: '.srt', render: srt },
  vtt: { contentType: 'text/vtt; charset=utf-8', extension: '.vtt', render: vtt },
  txt: { contentType: 'text/plain; charset=utf-8', extension: '.txt', render: txt },
  tsv: { contentType: 'text/tab-separated-values; charset=utf-8', extension: '.tsv', render: tsv },
} as const satisfies Record<FormatName, Format>;

export function renderTranscript(
  transcript: Transcript,
  format: FormatName,
  options: FormatOptions = {},
): string {
  const { render }: Format = FORMATS[format];
  return [...render(transcript, options)].join('');
}
