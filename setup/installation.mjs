import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { driverOf } from './device.mjs';

/**
 * What set-up notes in .venv/zeroscribe.json once everything is there, for itself and for the services
 * (core/installation.ts reads it).
 * @typedef {object} Installation
 * @property {string} python
 * @property {string} ffmpeg
 * @property {'cpu' | 'cuda'} device
 * @property {{ name: string, path: string }} packaged_model
 * @property {Record<string, string>} models downloaded ones: name → folder
 * @property {Record<string, string>} models_refused name → why it could not be downloaded; not tried again unless asked
 * @property {string} lock hash of what was to be installed
 * @property {{ path: string, version: string, requested: string | null }} base_python what the environment was made from
 * @property {string | null} driver where nvidia-smi was
 */

export const venvOf = (/** @type {string} */ root) => join(root, '.venv');
export const pythonOf = (/** @type {string} */ root) => join(venvOf(root), 'bin', 'python');
const fileOf = (/** @type {string} */ root) => join(venvOf(root), 'zeroscribe.json');

/** @returns {Installation | undefined} */
export function readInstallation(/** @type {string} */ root) {
  try {
    return JSON.parse(readFileSync(fileOf(root), 'utf8'));
  } catch {
    return undefined;
  }
}

/** Whole or not at all: this file says that set-up came to its end. */
export function writeInstallation(/** @type {string} */ root, /** @type {Installation} */ installation) {
  const draft = `${fileOf(root)}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(installation, null, 2)}\n`);
  renameSync(draft, fileOf(root));
}

export function removeInstallation(/** @type {string} */ root) {
  rmSync(fileOf(root), { force: true });
}

/**
 * Whether the Python side needs nothing. Asks no other process, since this runs before every command.
 * @param {Installation | undefined} installation
 * @param {{ root: string, env: NodeJS.ProcessEnv }} here
 * @returns {installation is Installation}
 */
export function isCurrent(installation, { root, env }) {
  return (
    installation !== undefined &&
    installation.lock === lockHash(root, installation.device) &&
    installation.python === pythonOf(root) &&
    [installation.python, installation.ffmpeg, installation.packaged_model.path].every((path) =>
      existsSync(path),
    ) &&
    isFromRequestedPython(installation, env) &&
    (env.ZEROSCRIBE_DEVICE
      ? env.ZEROSCRIBE_DEVICE === installation.device
      : driverOf(env) === installation.driver)
  );
}

export function isFromRequestedPython(
  /** @type {Installation} */ { base_python },
  /** @type {NodeJS.ProcessEnv} */ { PYTHON },
) {
  return !PYTHON || PYTHON === base_python?.requested || PYTHON === base_python?.path;
}

export const requirementsOf = (/** @type {string} */ root, /** @type {'cpu' | 'cuda'} */ device) =>
  join(root, 'setup', 'requirements', `${device}.txt`);

/** Changes with everything that decides what is installed, this code's choices included. */
export function lockHash(/** @type {string} */ root, /** @type {'cpu' | 'cuda'} */ device) {
  const files = [requirementsOf(root, device), join(root, 'setup', 'python-packages.mjs')];
  const hash = createHash('sha256').update(device);
  for (const file of files) hash.update(readFileSync(file));
  return hash.digest('hex');
}
