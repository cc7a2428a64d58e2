import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { sampleRecording } from '../../core/sample-recording.ts';
import { ffmpeg } from './media.ts';

/** Speech with known words that installed packages carry; the test that needs more speech repeats it. */
export function recordings(python: string): { sample: string; others: string[] } {
  const sample = sampleRecording(python);
  // pyannote/audio/sample/sample.wav → site-packages
  const sitePackages = dirname(dirname(dirname(dirname(sample))));
  const others = ['beckett.wav', 'two_cities.wav'].map((name) =>
    join(sitePackages, 'moonshine_voice', 'assets', name),
  );
  return { sample, others: others.filter((path) => existsSync(path)) };
}

/** The recording again and again until it has lasted `seconds`, as WAV. */
export async function repeated(
  ffmpegPath: string,
  path: string,
  seconds: number,
  target: string,
): Promise<string> {
  await ffmpeg(ffmpegPath, ['-stream_loop', '-1', '-i', path, '-t', String(seconds), target]);
  return target;
}
