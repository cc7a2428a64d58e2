import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { SetupFailure } from './failure.mjs';
import { findOnPath } from './find-python.mjs';

/**
 * Where the models are to run. PyTorch's CUDA builds are gigabytes, so only a machine whose driver answers gets one.
 * @returns {Promise<'cpu' | 'cuda'>}
 */
export async function detectDevice(/** @type {NodeJS.ProcessEnv} */ env) {
  const wanted = env.ZEROSCRIBE_DEVICE;
  if (wanted === 'cpu' || wanted === 'cuda') return wanted;
  if (wanted)
    throw new SetupFailure(`ZEROSCRIBE_DEVICE is ${wanted}. Set it to cpu or cuda, or leave it out.`);
  // The pinned CUDA build of torch exists for this platform alone.
  if (process.platform !== 'linux' || process.arch !== 'x64' || driverOf(env) === null) return 'cpu';
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', ['-L'], { env, timeout: 30_000 });
    return /^GPU \d+:/m.test(stdout) ? 'cuda' : 'cpu';
  } catch {
    return 'cpu';
  }
}

/** Asking the driver can take seconds; that its tool appeared or went away is seen at once. */
export function driverOf(/** @type {NodeJS.ProcessEnv} */ env) {
  return findOnPath('nvidia-smi', env.PATH) ?? null;
}
