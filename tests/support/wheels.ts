import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { REPOSITORY_ROOT, readInstallation } from '../../core/installation.ts';

const FOLDER = join(REPOSITORY_ROOT, '.venv', 'wheels');

/**
 * The folder with what a wheel carries that only tests need: installed once, from the index that set-up uses, by the
 * hash in wheels/NAME.txt, without what it depends on. None of its code runs. Undefined, with a word on why, where the
 * index has no such wheel for this machine.
 */
export async function wheelFolder(name: 'moonshine-voice' | 'fake-gcs-server'): Promise<string | undefined> {
  const folder = join(FOLDER, name);
  if (existsSync(folder)) return folder;
  const requirements = join(import.meta.dirname, 'wheels', `${name}.txt`);
  const target = await mkdtemp(join(REPOSITORY_ROOT, '.venv', 'wheel-'));
  try {
    await promisify(execFile)(readInstallation().python, [
      ...['-m', 'pip', 'install', '--quiet', '--no-deps', '--no-compile', '--only-binary', ':all:'],
      ...['--require-hashes', '--target', target, '-r', requirements],
    ]);
    await mkdir(FOLDER, { recursive: true });
    // Another worker may have been faster.
    await rename(target, folder).catch(() => {});
    return folder;
  } catch (error) {
    process.stderr.write(
      `skipped: ${name} cannot be installed here: ${(error as Error).message.split('\n')[0]}\n`,
    );
    return undefined;
  } finally {
    await rm(target, { recursive: true, force: true });
  }
}
