import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { REPOSITORY_ROOT } from '../../core/installation.ts';

export interface CliRun {
  process: ChildProcess;
  /** Everything it printed so far. */
  stdout(): string;
  stderr(): string;
  /** Resolves once it has ended and everything it printed is there. */
  ended: Promise<{ code: number | null; stdout: string; stderr: string }>;
}

/** The command line as its own process, as a user types it; not on a terminal. */
export function runCli(
  args: readonly string[],
  { cwd, env = {} }: { cwd: string; env?: Record<string, string> },
): CliRun {
  const child = spawn(process.execPath, [join(REPOSITORY_ROOT, 'cli', 'main.ts'), ...args], {
    cwd,
    env: { ...process.env, NODE_OPTIONS: '', ZEROSCRIBE_API_KEY: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    stdout += piece;
  });
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    stderr += piece;
  });
  return {
    process: child,
    stdout: () => stdout,
    stderr: () => stderr,
    ended: once(child, 'close').then(([code]) => ({ code: code as number | null, stdout, stderr })),
  };
}
