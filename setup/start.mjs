import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SetupFailure } from './failure.mjs';
import { setUp } from './set-up.mjs';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
/** @type {NodeJS.Signals[]} */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * Sets up if there is anything to do, then becomes `script`, a path in the repository; without one only sets up.
 * @param {{ script?: string, args: string[], models: import('./set-up.mjs').WantedModels, needsPython?: boolean }} command
 */
export async function start({ script, args, models, needsPython = true }) {
  const interrupted = new AbortController();
  /** @type {NodeJS.Signals | undefined} */
  let received;
  const interrupt = (/** @type {NodeJS.Signals} */ signal) => {
    received = signal;
    interrupted.abort(new SetupFailure('Interrupted. Running the command again goes on from here.'));
  };
  for (const signal of SIGNALS) process.on(signal, interrupt);
  try {
    const { node } = await setUp({
      root: ROOT,
      env: process.env,
      models,
      needsPython,
      signal: interrupted.signal,
    });
    for (const signal of SIGNALS) process.off(signal, interrupt);
    if (script !== undefined) run(node, [join(ROOT, script), ...args]);
    else process.exitCode = 0;
  } catch (error) {
    // Anything but a SetupFailure is a mistake of ours, and its stack is wanted.
    if (!(error instanceof SetupFailure)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = received === undefined ? 1 : 128 + constants.signals[received];
  }
}

/** As nearly an exec as Node has: the same streams, signals, exit code. */
function run(/** @type {string} */ node, /** @type {string[]} */ args) {
  const child = spawn(node, ['--disable-warning=ExperimentalWarning', ...args], {
    stdio: 'inherit',
    cwd: workingFolder(),
    // Compiled code is kept from one command to the next: half of the time until anything happens.
    env: { NODE_COMPILE_CACHE: join(ROOT, 'node_modules', '.cache', 'zeroscribe'), ...process.env },
  });
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      // A terminal gives Ctrl-C to every process of the command, and a second one would mean: at once.
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
    });
  }
  child.once('error', (error) => {
    process.stderr.write(`Node ${node} cannot be started: ${error.message}\n`);
    process.exitCode = 1;
  });
  child.once('exit', (code, signal) => {
    if (signal === null) {
      process.exitCode = code ?? 1;
      return;
    }
    for (const each of SIGNALS) process.removeAllListeners(each);
    process.kill(process.pid, signal);
  });
}

/** npm runs scripts in the repository's folder. A file to transcribe is meant from where the command was typed. */
function workingFolder() {
  const { npm_lifecycle_event, INIT_CWD } = process.env;
  const isTypedElsewhere = npm_lifecycle_event === 'transcribe' && INIT_CWD && process.cwd() === ROOT;
  return isTypedElsewhere ? INIT_CWD : process.cwd();
}
