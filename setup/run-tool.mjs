import { spawn } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const KEPT_CHARS = 200_000;

/**
 * @typedef {object} Workshop what every step of a set-up works with
 * @property {string} root
 * @property {NodeJS.ProcessEnv} env
 * @property {import('./progress.mjs').Progress} progress
 * @property {string} logFile
 * @property {AbortSignal} signal ends every tool
 * @property {{ add(pid: number): void, remove(pid: number): void }} lock is told of every tool that works in the folder
 */

/**
 * Runs a tool to its end. Its whole output goes to the log.
 * @param {Workshop} workshop
 * @param {string} command
 * @param {string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, onLine?: (line: string) => void }} [options]
 * @returns {Promise<{ isDone: boolean, output: string }>} with the end of what it printed
 */
export function runTool(workshop, command, args, { env = workshop.env, onLine } = {}) {
  const { root, logFile, signal, lock } = workshop;
  signal.throwIfAborted();
  let output = '';
  const keep = (/** @type {string} */ line) => {
    output = `${output}${line}\n`.slice(-KEPT_CHARS);
    log(logFile, line);
    onLine?.(line);
  };
  log(logFile, `$ ${command} ${args.join(' ')}`);
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    if (child.pid !== undefined) lock.add(child.pid);
    const stop = () => child.kill('SIGTERM');
    signal.addEventListener('abort', stop);
    for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', keep);
    child.once('error', (error) => keep(error.message));
    child.once('close', (code) => {
      signal.removeEventListener('abort', stop);
      if (child.pid !== undefined) lock.remove(child.pid);
      if (signal.aborted) reject(signal.reason);
      else resolve({ isDone: code === 0, output });
    });
  });
}

function log(/** @type {string} */ path, /** @type {string} */ line) {
  try {
    appendFileSync(path, `${line}\n`);
  } catch {
    // On a full disk the sentence that is printed has to do.
  }
}
