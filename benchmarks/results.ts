import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { REPOSITORY_ROOT } from '../core/installation.ts';

/** Each benchmark's figures, for docs/performance.md and for comparing one day with another. Not committed. */
export async function writeResults(name: string, results: object): Promise<void> {
  const folder = join(REPOSITORY_ROOT, 'benchmarks', 'results');
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, `${name}.json`), `${JSON.stringify(results, null, 2)}\n`);
}
