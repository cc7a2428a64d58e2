import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { explain, SetupFailure } from './failure.mjs';
import { runTool } from './run-tool.mjs';

const NODE_MAJOR = 24;

/** Whether node_modules holds what package-lock.json names. npm notes what it installed as the last thing it does. */
export function npmPackagesAreCurrent(/** @type {string} */ root) {
  const wanted = packagesIn(join(root, 'package-lock.json'));
  const installed = packagesIn(join(root, 'node_modules', '.package-lock.json'));
  if (wanted === undefined || installed === undefined || findNode(root) === undefined) return false;
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    if (path === '') return true;
    const found = installed[path];
    // The optional ones are builds for one platform each.
    return found === undefined ? optional === true : found.version === version;
  });
}

/**
 * The Node that runs Zeroscribe: npm installs it as a package, since the one that started set-up may be older.
 * @returns {string | undefined}
 */
export function findNode(/** @type {string} */ root) {
  const modules = join(root, 'node_modules');
  const names = [`node-${process.platform}-${process.arch}`, `node-bin-${process.platform}-${process.arch}`];
  const installed = names.map((name) => join(modules, name, 'bin', 'node')).find((path) => existsSync(path));
  if (installed !== undefined) return installed;
  return Number.parseInt(process.versions.node, 10) >= NODE_MAJOR ? process.execPath : undefined;
}

export async function installNpmPackages(/** @type {import('./run-tool.mjs').Workshop} */ workshop) {
  const { root, env, progress } = workshop;
  const step = progress.start('npm packages');
  const modules = join(root, 'node_modules');
  const paths = Object.keys(packagesIn(join(root, 'package-lock.json')) ?? {}).filter(
    (path) => path !== '' && !FOR_A_PLATFORM.test(path),
  );
  const watch = setInterval(() => {
    // npm makes all folders at once and fills them later.
    const filled = paths.filter((path) => existsSync(join(root, path, 'package.json'))).length;
    step.update(`${filled} of ${paths.length}`);
  }, 1000);
  try {
    const args = ['ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    // Ten seconds before the first retry, npm's default, are long when there is no network.
    const patience = ['--fetch-retries=3', '--fetch-retry-factor=3', '--fetch-retry-mintimeout=1000'];
    const { isDone, output } = await runTool(workshop, 'npm', [...args, ...patience], {
      // npm puts node_modules/.bin first, which holds a Node that `npm ci` is about to remove.
      env: { ...env, PATH: withoutFolder(env.PATH ?? '', join(modules, '.bin')) },
    });
    if (/spawn npm ENOENT/.test(output)) {
      throw new SetupFailure(
        'npm was not found: it comes with Node.js. Install Node.js with npm and run the command again.',
      );
    }
    if (!isDone) throw new SetupFailure(explain('installing the npm packages', output, root));
  } finally {
    clearInterval(watch);
  }
  if (findNode(root) === undefined) {
    throw new SetupFailure(
      `npm could not install Node ${NODE_MAJOR} for ${process.platform} on ${process.arch}. Run the command again, or install Node ${NODE_MAJOR} yourself.`,
    );
  }
  step.done();
}

/** @returns {Record<string, { version?: string, optional?: boolean }> | undefined} */
function packagesIn(/** @type {string} */ lockFile) {
  try {
    return JSON.parse(readFileSync(lockFile, 'utf8')).packages;
  } catch {
    return undefined;
  }
}

/** Of the builds for one platform each, at most a few are installed. */
const FOR_A_PLATFORM =
  /(darwin|linux|win32|freebsd|android|openbsd|netbsd|sunos|aix|wasm32|wasi|openharmony)/;

function withoutFolder(/** @type {string} */ path, /** @type {string} */ folder) {
  return path
    .split(delimiter)
    .filter((entry) => entry !== folder)
    .join(delimiter);
}
