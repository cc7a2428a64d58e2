import { parseArgs } from 'node:util';
import { readInstallation } from '../../core/installation.ts';
import { runFuzz } from './fuzz.ts';

// npm run fuzz -- [--seed N] [--files N] [--from N]: the long form of tests/fuzz/fuzz.test.ts.

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Date.now() % 100_000) },
    files: { type: 'string', default: '1000' },
    from: { type: 'string', default: '0' },
  },
});
const report = await runFuzz({
  seed: Number(values.seed),
  files: Number(values.files),
  from: Number(values.from),
  ffmpegPath: readInstallation().ffmpeg,
  log: (line) => console.error(line),
});
console.log(JSON.stringify(report, null, 2));
if (report.violations.length > 0) process.exitCode = 1;
