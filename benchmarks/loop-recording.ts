import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readInstallation } from '../core/installation.ts';
import { sampleRecording } from '../core/sample-recording.ts';

/** The sample of 30 s, over and over or cut off: a recording as long as wanted. Its bytes are copied, as WAV or as MP3. */
export async function loopRecording(
  folder: string,
  { seconds, format = 'wav' }: { seconds: number; format?: 'wav' | 'mp3' },
): Promise<string> {
  const { ffmpeg, python } = readInstallation();
  const run = (...args: string[]) =>
    promisify(execFile)(ffmpeg, ['-loglevel', 'error', '-nostdin', '-y', ...args]);
  let once = sampleRecording(python);
  if (format === 'mp3') {
    const wav = once;
    once = join(folder, 'once.mp3');
    await run('-i', wav, '-b:a', '64k', once);
  }
  const file = join(folder, `${seconds}.${format}`);
  await run('-stream_loop', '-1', '-i', once, '-t', String(seconds), '-c', 'copy', file);
  return file;
}
