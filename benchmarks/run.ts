import { parseArgs } from 'node:util';
import { benchAlignment } from './alignment.ts';
import { benchApi } from './api.ts';
import { benchColdStart } from './cold-start.ts';
import { benchEngine } from './engine.ts';
import { benchUpload } from './upload.ts';

const BENCHMARKS: Record<string, (options: { runs?: number }) => Promise<void>> = {
  alignment: benchAlignment,
  api: benchApi,
  'cold-start': benchColdStart,
  engine: benchEngine,
  upload: benchUpload,
};

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { runs: { type: 'string' } },
});
const names = positionals.length > 0 ? positionals : Object.keys(BENCHMARKS);
for (const name of names) {
  const bench = BENCHMARKS[name];
  if (bench === undefined) {
    console.error(`There is no benchmark ${name}. There are: ${Object.keys(BENCHMARKS).join(', ')}.`);
    process.exit(2);
  }
  await bench(values.runs === undefined ? {} : { runs: Number(values.runs) });
}
