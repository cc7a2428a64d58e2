import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { ffmpeg } from './media.ts';

/**
 * Two more voices, read prose, from the wheel of moonshine-voice (MIT). Fetched once, by the package index that set-up
 * uses; nothing where that does not have it.
 */
export async function otherRecordings(python: string): Promise<string[]> {
  const folder = join(dirname(dirname(python)), 'recordings');
  const paths = ['beckett.wav', 'two_cities.wav'].map((name) =>
    join(folder, 'moonshine_voice', 'assets', name),
  );
  if (!paths.every((path) => existsSync(path))) {
    const pip = [
      '-m',
      'pip',
      'install',
      '--quiet',
      '--no-deps',
      '--only-binary',
      ':all:',
      '--require-hashes',
    ];
    const requirements = join(import.meta.dirname, 'recordings.txt');
    try {
      await promisify(execFile)(python, [...pip, '--target', folder, '--upgrade', '-r', requirements]);
    } catch (error) {
      console.warn(`Compared on one recording only, others cannot be installed: ${(error as Error).message}`);
      return [];
    }
  }
  return paths;
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
