import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { REPOSITORY_ROOT, readInstallation } from '../core/installation.ts';
import { machineFacts } from './machine.ts';
import { writeResults } from './results.ts';

const RUNS = 5;
const RANDOM_CASES = 1_000;
const SIDECAR = join(REPOSITORY_ROOT, 'gpu-service', 'sidecar');

interface Measured {
  ten_minutes: {
    runs: number;
    words: number;
    stock_seconds: number;
    zeroscribe_seconds: number;
    same_words_times_and_scores: boolean;
  };
  random: { cases: number; differing: number };
}

/**
 * The aligner beside whisperx.align, in one process and in turns: the emissions of ten minutes given, since no trained
 * model comes in a package; and whether both find the same in random cases.
 */
export async function benchAlignment({ runs = RUNS }: { runs?: number }): Promise<void> {
  const { python } = readInstallation();
  const { stdout } = await promisify(execFile)(
    python,
    [join(REPOSITORY_ROOT, 'benchmarks', 'alignment.py'), String(runs), String(RANDOM_CASES)],
    { env: { ...process.env, PYTHONPATH: `${SIDECAR}:${join(SIDECAR, 'tests')}`, HF_HUB_OFFLINE: '1' } },
  );
  const measured = JSON.parse(stdout) as Measured;
  const { ten_minutes: ten, random } = measured;
  const ratio = ten.stock_seconds / ten.zeroscribe_seconds;
  await writeResults('alignment', { machine: machineFacts(), ratio, ...measured });
  console.log(`alignment of ten minutes, ${ten.words} words, emissions given, medians of ${ten.runs}:`);
  console.log(`  whisperx.align ${ten.stock_seconds.toFixed(2)} s`);
  console.log(`  zeroscribe     ${ten.zeroscribe_seconds.toFixed(3)} s, ${ratio.toFixed(0)}× as fast`);
  console.log(`  same words, times and scores: ${ten.same_words_times_and_scores ? 'yes' : 'NO'}`);
  console.log(`  random cases: ${random.cases}, differing: ${random.differing}`);
}
