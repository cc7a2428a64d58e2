import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { SetupFailure } from './failure.mjs';

const CANDIDATES = ['python3.13', 'python3.12', 'python3.11', 'python3.10', 'python3', 'python'];
// Old ones are asked too, Python 2 among them.
const QUESTION = `
import json, sys
try:
    import ensurepip, venv
    can = True
except ImportError:
    can = False
print(json.dumps({"version": list(sys.version_info[:3]), "path": sys.executable, "canMakeVenv": can}))`;

/** @typedef {{ version: [number, number, number], path: string, canMakeVenv: boolean }} Python */

/**
 * A Python that can make the virtual environment: PYTHON if it is given, else the newest that fits.
 * @throws {SetupFailure} saying what to install
 */
export async function findPython(/** @type {NodeJS.ProcessEnv} */ env) {
  const names = env.PYTHON
    ? [env.PYTHON]
    : CANDIDATES.filter((name) => findOnPath(name, env.PATH) !== undefined);
  /** @type {Python[]} */
  const found = [];
  for (const name of names) {
    const python = await ask(name, env);
    if (python !== undefined) found.push(python);
    if (python !== undefined && fits(python) && python.canMakeVenv) break;
  }
  return choosePython(found, env.PYTHON);
}

/** @returns {Python} */
export function choosePython(/** @type {Python[]} */ found, /** @type {string | undefined} */ requested) {
  const chosen = found.find((python) => fits(python) && python.canMakeVenv);
  if (chosen !== undefined) return chosen;
  const withoutVenv = found.find(fits);
  if (withoutVenv !== undefined) {
    const name = `python${withoutVenv.version.slice(0, 2).join('.')}`;
    throw new SetupFailure(
      `${withoutVenv.path} cannot make virtual environments. Install that part of Python (on Debian and Ubuntu: apt install ${name}-venv) and run the command again.`,
    );
  }
  const [wrong] = found;
  if (wrong !== undefined) {
    throw new SetupFailure(
      `Zeroscribe needs Python 3.10 to 3.13, and ${requested === undefined ? 'found only' : 'PYTHON is'} ${wrong.version.join('.')} (${wrong.path}). Install one of those, or set PYTHON to it, and run the command again.`,
    );
  }
  throw new SetupFailure(
    requested === undefined
      ? 'Python was not found. Install Python 3.10 to 3.13, or set PYTHON to it, and run the command again.'
      : `PYTHON is ${requested}, which cannot be run. Set it to a Python from 3.10 to 3.13 and run the command again.`,
  );
}

export function fits(/** @type {Pick<Python, 'version'>} */ { version: [major, minor] }) {
  return major === 3 && minor >= 10 && minor <= 13;
}

/** @returns {Promise<Python | undefined>} */
async function ask(/** @type {string} */ command, /** @type {NodeJS.ProcessEnv} */ env) {
  try {
    const { stdout } = await promisify(execFile)(command, ['-c', QUESTION], { env, timeout: 20_000 });
    return JSON.parse(stdout);
  } catch {
    return undefined;
  }
}

/** @returns {string | undefined} */
export function findOnPath(/** @type {string} */ name, path = '') {
  const files = path
    .split(delimiter)
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, name));
  return files.find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
