import { globSync } from 'node:fs';
import { dirname, join } from 'node:path';

/**
 * Half a minute of two people talking, as pyannote-audio carries it in its wheel (pyannote/audio/sample, MIT), with
 * its text in sample.stm and its speakers in sample.rttm beside it.
 */
export function sampleRecording(python: string): string {
  const pattern = join(
    dirname(dirname(python)),
    'lib',
    'python3.*',
    'site-packages',
    'pyannote',
    'audio',
    'sample',
    'sample.wav',
  );
  const [path] = globSync(pattern);
  if (path === undefined) throw new Error('The sample recording is not installed. Run `npm run setup`.');
  return path;
}
