import { parseArgs } from 'node:util';
import { benchAlignment } from './alignment.ts';
import { benchApi } from './api.ts';
import { benchColdStart } from './cold-start.ts';
import { benchDiarization } from './diarization.ts';
import { benchEngine } from './engine.ts';
import { benchMemory } from './memory.ts';
import { benchUpload } from './upload.ts';

interface Options {
  runs?: number;
  /** Of memory: how long the recordings are. */
  hours?: number[];
  /** Of memory: service, zeroscribe or stock. */
  only?: string[];
}

const BENCHMARKS: Record<string, (options: Options) => Promise<void>> = {
  alignment: benchAlignment,
  api: benchApi,
  'cold-start': benchColdStart,
  diarization: benchDiarization,
  engine: benchEngine,
  memory: benchMemory,
  upload: benchUpload,
};

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { runs: { type: 'string' }, hours: { type: 'string' }, only: { type: 'string' } },
});
const options: Options = {
  ...(values.runs === undefined ? {} : { runs: Number(values.runs) }),
  ...(values.hours === undefined ? {} : { hours: values.hours.split(',').map(Number) }),
  ...(values.only === undefined ? {} : { only: values.only.split(',') }),
};
const names = positionals.length > 0 ? positionals : Object.keys(BENCHMARKS);
for (const name of names) {
  const bench = BENCHMARKS[name];
  if (bench === undefined) {
    console.error(`There is no benchmark ${name}. There are: ${Object.keys(BENCHMARKS).join(', ')}.`);
    process.exit(2);
  }
  await bench(options);
}
