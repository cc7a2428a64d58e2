import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { describe } from '@jest/globals';

const PYTHON = fileURLToPath(new URL('../../.venv/bin/python', import.meta.url));

/** `describe` where the virtual environment is there; elsewhere it skips and says why. */
export function describeWithPython(name: string, body: () => void): void {
  if (existsSync(PYTHON)) {
    describe(name, body);
    return;
  }
  console.warn(`Skipped: ${name}. There is no .venv: run npm run setup.`);
  describe.skip(name, body);
}

/** Runs a script of this folder with JSON on its stdin, and reads JSON from its stdout. */
export async function runPython(script: string, input: unknown): Promise<unknown> {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn(PYTHON, ['-B', path], { stdio: ['pipe', 'pipe', 'pipe'] });
  const closed = once(child, 'close');
  child.stdin.on('error', () => {}); // It ended without reading: its exit code and stderr say why.
  child.stdin.end(JSON.stringify(input));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [code] = await closed;
  if (code !== 0) throw new Error(`${script} ended with ${code}: ${stderr}`);
  return JSON.parse(stdout);
}
