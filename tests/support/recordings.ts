import { join } from 'node:path';
import { ffmpeg } from './media.ts';
import { wheelFolder } from './wheels.ts';

/** Two more voices, read prose; nothing where they cannot be had. */
export async function otherRecordings(): Promise<string[]> {
  const folder = await wheelFolder('moonshine-voice');
  if (folder === undefined) return [];
  return ['beckett.wav', 'two_cities.wav'].map((name) => join(folder, 'moonshine_voice', 'assets', name));
}

/** A part of the recording, as WAV: looking for speech in what nobody asks about is dear. `output`: options of ffmpeg. */
export async function clipped(
  ffmpegPath: string,
  path: string,
  { fromSeconds, toSeconds, output = [] }: { fromSeconds: number; toSeconds: number; output?: string[] },
  target: string,
): Promise<string> {
  const part = ['-ss', String(fromSeconds), '-to', String(toSeconds), '-i', path];
  await ffmpeg(ffmpegPath, [...part, ...output, target]);
  return target;
}
