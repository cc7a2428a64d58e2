import { spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';

export interface Measurement {
  wallSeconds: number;
  /** Resident memory of the process and all its descendants together, at its highest. */
  peakMemoryBytes: number;
  /** The same without the files that are mapped, which the kernel drops when memory is short. */
  peakOwnMemoryBytes: number;
  /** Of the processes of one name, together, at their highest. Not all have theirs at the same moment. */
  peakOwnMemoryBytesByName: Record<string, number>;
  stdout: string;
}

/** One process at one moment. */
interface ProcessMemory {
  name: string;
  /** Resident. */
  bytes: number;
  /** Resident, and from no file. */
  ownBytes: number;
}

const SAMPLE_INTERVAL_MS = 100;
/** New processes are looked for among all of the machine's; ten times a second that cost too much of two cores for hours. */
const LONG_AFTER_MS = 60_000;
const LONG_SEARCH_INTERVAL_MS = 1_000;

/**
 * Runs a command from process start to its end. Linux only: memory is summed over the process tree from /proc ten
 * times a second, so pages that processes share count more than once, for every command alike.
 * `nameOf` names a process by its command line.
 */
export async function measureProcess(
  command: readonly string[],
  {
    nameOf = ([file]) => file ?? '',
    ...options
  }: { cwd: string; env: NodeJS.ProcessEnv; nameOf?: (commandLine: readonly string[]) => string },
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

  const peaks = new Peaks();
  let isRunning = true;
  const sampling = (async () => {
    let tree: number[] = [];
    let searchedMs = 0;
    while (isRunning && child.pid !== undefined) {
      const nowMs = performance.now();
      if (nowMs - startedMs < LONG_AFTER_MS || nowMs - searchedMs >= LONG_SEARCH_INTERVAL_MS) {
        tree = await processTree(child.pid);
        searchedMs = nowMs;
      }
      peaks.see(await memoryOf(tree, nameOf));
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_INTERVAL_MS));
    }
  })();
  const exitCode = await ended;
  const wallSeconds = (performance.now() - startedMs) / 1_000;
  isRunning = false;
  await sampling;
  if (exitCode !== 0) throw new Error(`${command.join(' ')} ended with ${exitCode}:\n${stderr}`);
  return {
    wallSeconds,
    peakMemoryBytes: peaks.bytes,
    peakOwnMemoryBytes: peaks.ownBytes,
    peakOwnMemoryBytesByName: peaks.ownBytesByName,
    stdout,
  };
}

/** Of a process and its descendants, children in process groups of their own included. */
export async function treeMemoryBytes(rootPid: number): Promise<number> {
  return sum((await memoryOf(await processTree(rootPid), () => '')).map(({ bytes }) => bytes));
}

class Peaks {
  bytes = 0;
  ownBytes = 0;
  readonly ownBytesByName: Record<string, number> = {};

  see(processes: readonly ProcessMemory[]): void {
    this.bytes = Math.max(this.bytes, sum(processes.map(({ bytes }) => bytes)));
    this.ownBytes = Math.max(this.ownBytes, sum(processes.map(({ ownBytes }) => ownBytes)));
    for (const [name, alike] of Map.groupBy(processes, ({ name }) => name)) {
      const ownBytes = sum(alike.map((process) => process.ownBytes));
      this.ownBytesByName[name] = Math.max(this.ownBytesByName[name] ?? 0, ownBytes);
    }
  }
}

async function processTree(rootPid: number): Promise<number[]> {
  const parents = new Map<number, number>();
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const stat = await readOfProcess(pid, 'stat');
    if (stat !== undefined)
      parents.set(Number(pid), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
  }
  return [...parents.keys()].filter((pid) => {
    for (let ancestor: number | undefined = pid; ancestor; ancestor = parents.get(ancestor)) {
      if (ancestor === rootPid) return true;
    }
    return false;
  });
}

async function memoryOf(
  pids: readonly number[],
  nameOf: (commandLine: readonly string[]) => string,
): Promise<ProcessMemory[]> {
  const found = await Promise.all(
    pids.map(async (pid) => {
      const [status, commandLine] = await Promise.all([
        readOfProcess(pid, 'status'),
        readOfProcess(pid, 'cmdline'),
      ]);
      // One that is ending has no command line any more, and no memory.
      if (status === undefined || !commandLine) return [];
      const bytes = (field: string) =>
        1_024 * Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
      const ownBytes = bytes('RssAnon') + bytes('RssShmem');
      return [{ name: nameOf(commandLine.split('\0')), bytes: bytes('VmRSS'), ownBytes }];
    }),
  );
  return found.flat();
}

/** Undefined: it has ended. */
async function readOfProcess(pid: number | string, file: string): Promise<string | undefined> {
  try {
    return await readFile(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return undefined;
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
