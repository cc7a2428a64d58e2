import { spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';

export interface Measurement {
  wallSeconds: number;
  /** Resident memory of the process and all its descendants together, at its highest. */
  peakMemoryBytes: number;
  stdout: string;
}

const SAMPLE_INTERVAL_MS = 100;
const PAGE_BYTES = 4096;

/**
 * Runs a command from process start to its end. Linux only: memory is summed over the process tree from /proc ten
 * times a second, so pages that processes share count more than once, for every command alike.
 */
export async function measureProcess(
  command: readonly string[],
  options: { cwd: string; env: NodeJS.ProcessEnv },
): Promise<Measurement> {
  const [file, ...args] = command;
  if (file === undefined) throw new TypeError('the command is empty');
  const startedMs = performance.now();
  const child = spawn(file, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (piece: Buffer) => {
    stdout += piece.toString();
  });
  child.stderr.on('data', (piece: Buffer) => {
    stderr = (stderr + piece.toString()).slice(-10_000);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });

  let peakMemoryBytes = 0;
  let isRunning = true;
  const sampling = (async () => {
    while (isRunning && child.pid !== undefined) {
      peakMemoryBytes = Math.max(peakMemoryBytes, await treeMemoryBytes(child.pid));
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_INTERVAL_MS));
    }
  })();
  const exitCode = await ended;
  const wallSeconds = (performance.now() - startedMs) / 1_000;
  isRunning = false;
  await sampling;
  if (exitCode !== 0) throw new Error(`${command.join(' ')} ended with ${exitCode}:\n${stderr}`);
  return { wallSeconds, peakMemoryBytes, stdout };
}

/** Of a process and its descendants, children in process groups of their own included. */
export async function treeMemoryBytes(rootPid: number): Promise<number> {
  const parents = new Map<number, { parent: number; bytes: number }>();
  await Promise.all(
    (await readdir('/proc'))
      .filter((name) => /^\d+$/.test(name))
      .map(async (name) => {
        try {
          const [stat, statm] = await Promise.all([
            readFile(`/proc/${name}/stat`, 'utf8'),
            readFile(`/proc/${name}/statm`, 'utf8'),
          ]);
          const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
          parents.set(Number(name), { parent, bytes: Number(statm.split(' ')[1]) * PAGE_BYTES });
        } catch {
          // It ended between the listing and the reading.
        }
      }),
  );
  let total = 0;
  for (const [pid, { bytes }] of parents) {
    for (let ancestor: number | undefined = pid; ancestor; ancestor = parents.get(ancestor)?.parent) {
      if (ancestor === rootPid) {
        total += bytes;
        break;
      }
    }
  }
  return total;
}
