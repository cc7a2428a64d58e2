import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { SetupFailure } from './failure.mjs';
import { pythonOf } from './installation.mjs';
import { WHISPER_MODELS } from './model-table.mjs';
import { sizeOf } from './python-packages.mjs';
import { runTool } from './run-tool.mjs';

/** What set-up can download. */
export const MODELS = WHISPER_MODELS;
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
 */
export async function fetchModel(workshop, name) {
  const path = join(modelsFolder(workshop), name);
  if (existsSync(join(path, 'model.bin'))) return { path };
  return await fetchInto(workshop, path, MODELS[name]);
}

/**
 * Afterwards `path` holds the whole model, checked, or nothing.
 * @param {import('./run-tool.mjs').Workshop} workshop
 * @param {string} path
 * @param {import('./model-table.mjs').ModelSource} source
 * @returns {Promise<{ path: string } | { refused: string }>}
 */
export async function fetchInto(workshop, path, source) {
  const { root, env, progress } = workshop;
  const step = progress.start(`model ${basename(path)}`);
  // Kept when it is interrupted, and gone on with the next time.
  const partial = join(modelsFolder(workshop), '.partial', basename(path));
  const watch = setInterval(() => {
    step.update(`${Math.round(sizeOf(partial) / 1e6)} of ${Math.round(source.sizeBytes / 1e6)} MB`);
  }, 500);
  try {
    const script = join(root, 'setup', 'fetch_model.py');
    const { isDone, output } = await runTool(
      workshop,
      pythonOf(root),
      [script, JSON.stringify(source), partial],
      { env: { ...env, HF_HUB_DISABLE_PROGRESS_BARS: '1', HF_HUB_DISABLE_TELEMETRY: '1' } },
    );
    if (!isDone) {
      const refused = (output.trim().split('\n').at(-1) ?? '').slice(0, 200);
      step.done('not downloaded');
      return { refused };
    }
    rmSync(join(partial, '.cache'), { recursive: true, force: true });
    mkdirSync(dirname(path), { recursive: true });
    renameSync(partial, path);
    step.done();
    return { path };
  } finally {
    clearInterval(watch);
  }
}
