import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { REPOSITORY_ROOT, readInstallation } from '../core/installation.ts';
import { WAITS_PASSIVELY } from '../gpu-service/supervisor/command.ts';

/** The JSON that a program beside this one prints. It may import the sidecar, and the cases of the sidecar's tests. */
export async function runPythonBenchmark<T>(script: string, args: readonly string[]): Promise<T> {
  const sidecar = join(REPOSITORY_ROOT, 'gpu-service', 'sidecar');
  const { stdout } = await promisify(execFile)(
    readInstallation().python,
    [join(REPOSITORY_ROOT, 'benchmarks', script), ...args],
    {
      env: {
        ...process.env,
        ...WAITS_PASSIVELY,
        PYTHONPATH: `${sidecar}:${join(sidecar, 'tests')}`,
        HF_HUB_OFFLINE: '1',
      },
    },
  );
  return JSON.parse(stdout) as T;
}
