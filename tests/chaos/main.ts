import { parseArgs } from 'node:util';
import { readInstallation } from '../../core/installation.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { nodeTool, run } from '../tools.ts';
import { runChaos } from './chaos.ts';

// npm run chaos -- [--seed N] [--events N] [--jobs N]: the long form of tests/chaos/chaos.test.ts.
// npm run chaos -- upload: that of tests/e2e/upload.test.ts.

const UPLOAD_TIMEOUT_MS = 15 * 60_000;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string', default: String(Date.now() % 100_000) },
    events: { type: 'string', default: '200' },
    jobs: { type: 'string', default: '60' },
  },
});
if (positionals.includes('upload')) {
  const command = nodeTool('jest/bin/jest.js', 'tests/e2e/upload.test.ts');
  const env = { UPLOAD_CHAOS: 'long', NODE_OPTIONS: '--experimental-vm-modules' };
  const { exitCode } = await run(
    { name: 'upload', command },
    { env, timeoutMs: UPLOAD_TIMEOUT_MS, live: true },
  );
  process.exit(exitCode);
}
const report = await runChaos({
  seed: Number(values.seed),
  events: Number(values.events),
  jobs: Number(values.jobs),
  recording: sampleRecording(readInstallation().python),
  log: (line) => console.error(line),
});
console.log(JSON.stringify(report, null, 2));
if (report.violations.length > 0) process.exitCode = 1;
