import { expect, test } from '@jest/globals';
import { readInstallation } from '../../core/installation.ts';
import { runFuzz } from './fuzz.ts';

test('broken media ends in audio or in a problem of its own, and leaves nothing', async () => {
  const report = await runFuzz({ seed: 5, files: 40, ffmpegPath: readInstallation().ffmpeg });
  expect(report.violations).toEqual([]);
  // Not all alike: the files are broken, and not all of them beyond recognition.
  expect(Object.keys(report.ends).length).toBeGreaterThan(2);
  expect(report.ends.audio).toBeGreaterThan(0);
}, 300_000);
