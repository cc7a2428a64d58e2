import { relative } from 'node:path';
import type { Transcription } from './client.ts';
import { clock } from './progress.ts';
import type { TranscriptFile } from './transcript-files.ts';

/** `Wrote talk.srt and talk.json (12:10 of audio in 0:40)`. */
export function describeWritten(files: readonly TranscriptFile[], done: Transcription): string {
  return `Wrote ${files.map(({ path }) => shortPath(path)).join(' and ')}${pace(done)}`;
}

function pace({ duration_seconds, metrics }: Transcription): string {
  if (duration_seconds === null || metrics.processing_seconds === null) return '';
  return ` (${clock(duration_seconds)} of audio in ${clock(metrics.processing_seconds)})`;
}

function shortPath(path: string): string {
  const fromHere = relative('.', path);
  return fromHere.startsWith('..') ? path : fromHere;
}
