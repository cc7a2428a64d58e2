import { existsSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { SetupFailure } from './failure.mjs';
import { pythonOf } from './installation.mjs';
import { sizeOf } from './python-packages.mjs';
import { runTool } from './run-tool.mjs';

/** What set-up can download. The revision fixes the bytes; the size is for the progress. */
export const MODELS = {
  small: {
    repository: 'Systran/faster-whisper-small',
    revision: '536b0662742c02347bc0e980a01041f333bce120',
    sizeBytes: 486_000_000,
  },
  'large-v3-turbo': {
    repository: 'mobiuslabsgmbh/faster-whisper-large-v3-turbo',
    revision: '0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf',
    sizeBytes: 1_621_000_000,
  },
};
/** @typedef {keyof typeof MODELS} ModelName */

/** @returns {ModelName} */
export const defaultModel = (/** @type {'cpu' | 'cuda'} */ device) =>
  device === 'cuda' ? 'large-v3-turbo' : 'small';

/** @returns {ModelName[]} */
export function parseModelNames(/** @type {string} */ list) {
  const names = list
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  const unknown = names.find((name) => !Object.hasOwn(MODELS, name));
  if (unknown !== undefined || names.length === 0) {
    throw new SetupFailure(
      `--models needs names from: ${Object.keys(MODELS).join(', ')}.${unknown === undefined ? '' : ` There is no ${unknown}.`}`,
    );
  }
  return /** @type {ModelName[]} */ (names);
}

/** @param {{ root: string, env: NodeJS.ProcessEnv }} here */
export function modelsFolder({ root, env }) {
  return env.MODELS_DIR ? resolve(root, env.MODELS_DIR) : join(root, 'models');
}

/**
 * Downloads a model. A network that says no is no failure: the packaged model does the work meanwhile.
 * @param {import('./run-tool.mjs').Workshop} workshop
 * @param {ModelName} name
 * @returns {Promise<{ path: string } | { refused: string }>}
 */
export async function fetchModel(workshop, name) {
  const { root, env, progress } = workshop;
  const { repository, revision, sizeBytes } = MODELS[name];
  const path = join(modelsFolder(workshop), name);
  if (existsSync(join(path, 'model.bin'))) return { path };
  const step = progress.start(`model ${name}`);
  // Kept when it is interrupted, and gone on with the next time.
  const partial = join(modelsFolder(workshop), '.partial', name);
  const watch = setInterval(() => {
    step.update(`${Math.round(sizeOf(partial) / 1e6)} of ${Math.round(sizeBytes / 1e6)} MB`);
  }, 500);
  try {
    const script = join(root, 'setup', 'fetch_model.py');
    const { isDone, output } = await runTool(
      workshop,
      pythonOf(root),
      [script, repository, revision, partial],
      {
        env: { ...env, HF_HUB_DISABLE_PROGRESS_BARS: '1', HF_HUB_DISABLE_TELEMETRY: '1' },
      },
    );
    if (!isDone) {
      const refused = (output.trim().split('\n').at(-1) ?? '').slice(0, 200);
      step.done('not downloaded');
      return { refused };
    }
    rmSync(join(partial, '.cache'), { recursive: true, force: true });
    renameSync(partial, path);
    step.done();
    return { path };
  } finally {
    clearInterval(watch);
  }
}
