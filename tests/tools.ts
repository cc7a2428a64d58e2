import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

/** Where a tool of the repository lies and how it is called. */
export interface Tool {
  name: string;
  command: [file: string, ...args: string[]];
  cwd?: string;
}

export const ROOT = join(import.meta.dirname, '..');
export const SIDECAR = join(ROOT, 'gpu-service', 'sidecar');

/** A command-line program that an npm package brings; Node 24 runs it, whichever Node is on the PATH. */
export function nodeTool(path: string, ...args: string[]): [string, ...string[]] {
  return [process.execPath, join(ROOT, 'node_modules', path), ...args];
}

export function pythonTool(module: string, ...args: string[]): [string, ...string[]] {
  return [join(ROOT, '.venv', 'bin', 'python'), '-m', module, ...args];
}

export interface Run {
  exitCode: number;
  output: string;
  seconds: number;
}

/** Runs a tool to its end. After `timeoutMs` it is killed with all that it started, and has failed. */
export async function run(
  { command: [file, ...args], cwd = ROOT }: Tool,
  { env = {}, timeoutMs, live = false }: { env?: NodeJS.ProcessEnv; timeoutMs: number; live?: boolean },
): Promise<Run> {
  const startedMs = Date.now();
  // Its own process group, so that what it started can be killed with it.
  const child = spawn(file, args, {
    cwd,
    env: { ...process.env, ...env },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const kill = (): void => killGroup(child);
  process.once('exit', kill);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      if (live) process.stdout.write(text);
      else output += text;
    });
  }
  const timer = setTimeout(() => {
    output += `\nStopped after ${timeoutMs / 60_000} minutes.\n`;
    kill();
  }, timeoutMs);
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    return { exitCode: code ?? 1, output, seconds: (Date.now() - startedMs) / 1000 };
  } finally {
    clearTimeout(timer);
    process.off('exit', kill);
  }
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Already gone.
  }
}
