import { expect, test } from '@jest/globals';
import { readInstallation } from '../../core/installation.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { runChaos } from './chaos.ts';

test('jobs survive whatever happens to processes, storage and queue', async () => {
  const recording = sampleRecording(readInstallation().python);
  const report = await runChaos({ seed: 7, events: 24, jobs: 12, recording });
  console.info(JSON.stringify(report, null, 2));
  expect(report.violations).toEqual([]);
  expect(report.accepted).toBeGreaterThan(0);
}, 300_000);
