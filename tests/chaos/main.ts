import { parseArgs } from 'node:util';
import { readInstallation } from '../../core/installation.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { runChaos } from './chaos.ts';

// npm run chaos -- [--seed N] [--events N] [--jobs N]: the long form of tests/chaos/chaos.test.ts.

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Date.now() % 100_000) },
    events: { type: 'string', default: '200' },
    jobs: { type: 'string', default: '60' },
  },
});
const report = await runChaos({
  seed: Number(values.seed),
  events: Number(values.events),
  jobs: Number(values.jobs),
  recording: sampleRecording(readInstallation().python),
  log: (line) => console.error(line),
});
console.log(JSON.stringify(report, null, 2));
if (report.violations.length > 0) process.exitCode = 1;
