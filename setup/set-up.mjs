import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { detectDevice, driverOf } from './device.mjs';
import { explain, SetupFailure } from './failure.mjs';
import { isCurrent, lockHash, pythonOf, readInstallation, writeInstallation } from './installation.mjs';
import { defaultModel, fetchModel } from './models.mjs';
import { findNode, installNpmPackages, npmPackagesAreCurrent } from './npm-packages.mjs';
import { Progress } from './progress.mjs';
import { installPythonPackages, keepEightBit } from './python-packages.mjs';
import { SetupLock } from './set-up-lock.mjs';

/** @typedef {import('./installation.mjs').Installation} Installation */
/** @typedef {import('./models.mjs').ModelName} ModelName */

/**
 * Which models to download: the machine's default one unless that was refused before; the named ones in any case; none.
 * @typedef {'default' | 'none' | ModelName[]} WantedModels
 */

/**
 * @typedef {object} SetUpOptions
 * @property {string} root
 * @property {NodeJS.ProcessEnv} env
 * @property {WantedModels} models
 * @property {boolean} [needsPython] what only talks to other machines does without: it is spared two minutes
 * @property {AbortSignal} signal
 */

/**
 * Brings the folder to the state that its lock files describe, and says on stderr what it does. Does nothing, quickly,
 * when there is nothing to do.
 * @param {SetUpOptions} options
 * @returns {Promise<{ node: string }>} the Node to run Zeroscribe with
 * @throws {SetupFailure}
 */
export async function setUp(options) {
  const { root, env, signal } = options;
  if (isComplete(options)) return { node: nodeOf(root) };
  if (process.platform !== 'linux' && process.platform !== 'darwin') {
    throw new SetupFailure('Zeroscribe runs on Linux and macOS. On Windows, use it inside WSL.');
  }
  const { needsPython = true } = options;
  if (needsPython && process.platform === 'darwin' && process.arch === 'x64') {
    throw new SetupFailure(
      'PyTorch has no current build for Macs with an Intel processor. Use a Mac with Apple silicon, or Linux.',
    );
  }
  const progress = new Progress();
  const lock = new SetupLock(join(root, '.setup.lock'));
  const logFile = join(root, 'setup.log');
  try {
    await lock.acquire((pid) => {
      progress.line(`Another set-up is working in this folder (process ${pid}). Waiting for it to end.`);
    }, signal);
    // It may just have been done.
    if (isComplete(options)) return { node: nodeOf(root) };
    rmSync(logFile, { force: true });
    await install({ root, env, progress, logFile, lock, signal }, options);
    rmSync(logFile, { force: true });
    return { node: nodeOf(root) };
  } catch (error) {
    progress.stop();
    if (signal.aborted) throw signal.reason;
    if (error instanceof SetupFailure) throw withLog(error.message, logFile);
    const { code, message } = /** @type {NodeJS.ErrnoException} */ (error);
    if (code === undefined) throw error;
    throw new SetupFailure(explain('setting up', message, root));
  } finally {
    progress.stop();
    lock.release();
  }
}

/**
 * @param {import('./run-tool.mjs').Workshop} workshop
 * @param {Pick<SetUpOptions, 'models' | 'needsPython'>} wanted
 */
async function install(workshop, { models, needsPython: wantsPython = true }) {
  const { root, env, progress } = workshop;
  const needsNpm = !npmPackagesAreCurrent(root);
  const before = readInstallation(root);
  const needsPython = wantsPython && !isCurrent(before, { root, env });
  if (needsNpm || needsPython) progress.line(`Setting up Zeroscribe in ${root}. This is done once.`);

  // npm mostly waits and pip mostly computes. If one fails, the other need not go on.
  const stop = new AbortController();
  workshop.signal.addEventListener('abort', () => stop.abort(workshop.signal.reason), { once: true });
  const { signal } = stop;
  const parts = [
    needsNpm ? installNpmPackages({ ...workshop, signal }) : undefined,
    needsPython ? installPython({ ...workshop, signal }) : before,
  ];
  for (const part of parts) Promise.resolve(part).catch((error) => stop.abort(error));
  const settled = await Promise.allSettled(parts);
  if (stop.signal.aborted) throw stop.signal.reason;
  if (wantsPython) {
    const installation = /** @type {PromiseFulfilledResult<Installation>} */ (settled[1]).value;
    for (const name of missingModels(installation, models, env)) await addModel(workshop, installation, name);
  }
  if (needsNpm || needsPython) progress.line('Zeroscribe is set up.');
}

/** @returns {Promise<Installation>} */
async function installPython(/** @type {import('./run-tool.mjs').Workshop} */ workshop) {
  const { root, env } = workshop;
  const before = readInstallation(root);
  const device = await detectDevice(env);
  const lock = lockHash(root, device);
  const facts = await installPythonPackages(workshop, device);
  /** @type {Installation} */
  const installation = {
    python: pythonOf(root),
    ffmpeg: facts.ffmpeg,
    device,
    packaged_model: facts.model,
    models: before?.models ?? {},
    models_refused: before?.models_refused ?? {},
    lock,
    base_python: { path: facts.base, version: facts.version, requested: env.PYTHON || null },
    driver: driverOf(env),
  };
  writeInstallation(root, installation);
  return installation;
}

/**
 * @param {import('./run-tool.mjs').Workshop} workshop
 * @param {Installation} installation
 * @param {ModelName} name
 */
async function addModel(workshop, installation, name) {
  const fetched = await fetchModel(workshop, name);
  delete installation.models_refused[name];
  if ('path' in fetched) {
    if (installation.device === 'cpu') await keepEightBit(workshop, fetched.path);
    installation.models[name] = fetched.path;
  } else {
    installation.models_refused[name] = fetched.refused;
    workshop.progress.line(
      `  The model ${name} could not be downloaded (${fetched.refused}). ${installation.packaged_model.name}, which came with the packages, is used instead. To try again: npm run setup -- --models ${name}`,
    );
  }
  writeInstallation(workshop.root, installation);
}

/** @param {Omit<SetUpOptions, 'signal'>} options */
function isComplete({ root, env, models, needsPython = true }) {
  if (!needsPython) return npmPackagesAreCurrent(root);
  const installation = readInstallation(root);
  return (
    isCurrent(installation, { root, env }) &&
    missingModels(installation, models, env).length === 0 &&
    npmPackagesAreCurrent(root)
  );
}

/**
 * @param {Installation} installation
 * @param {WantedModels} models
 * @param {NodeJS.ProcessEnv} env
 * @returns {ModelName[]}
 */
export function missingModels(
  { device, models: present, models_refused: refused },
  models,
  { WHISPER_MODEL },
) {
  if (models === 'none') return [];
  if (models !== 'default') return models.filter((name) => present[name] === undefined);
  const name = defaultModel(device);
  const isWanted = (WHISPER_MODEL || 'auto') === 'auto' || WHISPER_MODEL === name;
  return isWanted && present[name] === undefined && refused[name] === undefined ? [name] : [];
}

function nodeOf(/** @type {string} */ root) {
  const node = findNode(root);
  if (node === undefined) throw new SetupFailure('Node 24 is missing. Run npm run setup.');
  return node;
}

function withLog(/** @type {string} */ message, /** @type {string} */ logFile) {
  return new SetupFailure(
    existsSync(logFile) ? `${message}\nEverything that was printed is in ${logFile}.` : message,
  );
}
