import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readInstallation } from '../core/installation.ts';
import { sampleRecording } from '../core/sample-recording.ts';

/**
 * The sample of 30 s, over and over or cut off: a recording as long as wanted. Its bytes are copied, as WAV or as MP3.
 * @param pauseSeconds of faint noise after each time
 */
export async function loopRecording(
  folder: string,
  {
    seconds,
    format = 'wav',
    pauseSeconds = 0,
  }: { seconds: number; format?: 'wav' | 'mp3'; pauseSeconds?: number },
): Promise<string> {
  const { ffmpeg, python } = readInstallation();
  const run = (...args: string[]) =>
    promisify(execFile)(ffmpeg, ['-loglevel', 'error', '-nostdin', '-y', ...args]);
  let once = sampleRecording(python);
  if (format === 'mp3' || pauseSeconds > 0) {
    const noise = `anoisesrc=color=pink:amplitude=0.0005:duration=${pauseSeconds}`;
    const pause = pauseSeconds > 0 ? ['-f', 'lavfi', '-i', noise, '-filter_complex', 'concat=v=0:a=1'] : [];
    const sample = once;
    once = join(folder, `once.${format}`);
    await run(
      '-i',
      sample,
      ...pause,
      '-ac',
      '1',
      '-ar',
      '16000',
      ...(format === 'mp3' ? ['-b:a', '64k'] : []),
      once,
    );
  }
  const file = join(folder, `${seconds}.${format}`);
  await run('-stream_loop', '-1', '-i', once, '-t', String(seconds), '-c', 'copy', file);
  return file;
}
