import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { REPOSITORY_ROOT } from '../../core/installation.ts';

/** A service of ours as its own process, as a user starts it. */
export interface Service {
  url: string;
  process: ChildProcess;
  /** Everything it logged so far, parsed. */
  log: Record<string, unknown>[];
  /** As a platform stops it. Resolves to the exit code. */
  stop(): Promise<number | null>;
  /** As the kernel does when memory runs out. */
  kill(): Promise<void>;
}

/** One of which it is not known yet where it listens. */
export type UnaddressedService = Omit<Service, 'url'> & { url: Promise<string> };

/** The one-machine service. Resolves once it listens. */
export function startService(dataDir: string, env: Record<string, string> = {}): Promise<Service> {
  return startProcess(['cli/main.ts', 'serve'], { DATA_DIR: dataDir, ...env });
}

/** A main of ours that logs where it listens. */
export function startProcess(args: readonly string[], env: Record<string, string>): Promise<Service> {
  return listening(start(args, env));
}

/** One that ends by itself, and need not listen. */
export function spawnProcess(args: readonly string[], env: Record<string, string>): UnaddressedService {
  return watched(start(args, env));
}

function start(
  args: readonly string[],
  env: Record<string, string>,
): ChildProcessByStdio<null, Readable, Readable> {
  return spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], {
    cwd: REPOSITORY_ROOT,
    env: { ...process.env, NODE_OPTIONS: '', PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Resolves once it has logged where it listens. `kill` is for a process that is not the child itself. */
export async function listening(
  child: ChildProcessByStdio<null, Readable, Readable>,
  kill?: (signal: NodeJS.Signals) => unknown,
): Promise<Service> {
  const service = watched(child, kill);
  return { ...service, url: await service.url };
}

function watched(
  child: ChildProcessByStdio<null, Readable, Readable>,
  kill: (signal: NodeJS.Signals) => unknown = (signal) => child.kill(signal),
): UnaddressedService {
  const log: Record<string, unknown>[] = [];
  let stderr = '';
  child.stderr.on('data', (piece: Buffer) => {
    stderr = (stderr + piece.toString()).slice(-20_000);
  });
  const url = new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const entry = parse(line);
      log.push(entry);
      if (typeof entry.url === 'string') resolve(entry.url);
    });
    child.once('exit', (code) => reject(new Error(`the service ended with ${code}: ${stderr}`)));
  });
  // Nobody may want to know.
  url.catch(() => {});
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const exit = once(child, 'exit');
    await kill(signal);
    return (await exit)[0] as number | null;
  };
  return {
    url,
    process: child,
    log,
    stop: () => end('SIGTERM'),
    kill: async () => {
      await end('SIGKILL');
    },
  };
}

function parse(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return { message: line };
  }
}
