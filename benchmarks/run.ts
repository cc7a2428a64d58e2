import { parseArgs } from 'node:util';
import { benchAlignment } from './alignment.ts';
import { benchApi } from './api.ts';
import { benchColdStart } from './cold-start.ts';
import { benchDiarization } from './diarization.ts';
import { benchEngine } from './engine.ts';
import { benchMemory, MEMORY_TOOLS } from './memory.ts';
import { benchUpload } from './upload.ts';

interface Options {
  runs?: number;
  /** Of memory: how long the recordings are. */
  hours?: number[];
  /** Of memory: which of MEMORY_TOOLS. */
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
const numbers = (option: string, value: string): number[] =>
  value
    .split(',')
    .map((part) => (Number(part) > 0 ? Number(part) : refuse(`--${option} takes numbers, such as 3.`)));
const oneOf = (what: string, known: readonly string[], name: string): string =>
  known.includes(name) ? name : refuse(`There is no ${what} ${name}. There are: ${known.join(', ')}.`);

function refuse(problem: string): never {
  console.error(problem);
  process.exit(2);
}

const names = positionals.map((name) => oneOf('benchmark', Object.keys(BENCHMARKS), name));
const { runs, hours, only } = values;
const options: Options = {
  ...(runs === undefined ? {} : { runs: numbers('runs', runs)[0] as number }),
  ...(hours === undefined ? {} : { hours: numbers('hours', hours) }),
  ...(only === undefined ? {} : { only: only.split(',').map((name) => oneOf('tool', MEMORY_TOOLS, name)) }),
};
for (const [name, bench] of Object.entries(BENCHMARKS)) {
  if (names.length === 0 || names.includes(name)) await bench(options);
}
