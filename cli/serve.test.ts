import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { runCli } from '../tests/support/run-cli.ts';
import { waitFor } from '../tests/support/wait-for.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cli-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const LISTENING = /Zeroscribe listens on (http:\/\/127\.0\.0\.1:(\d+))\./;

test('the service says where it listens and how to try it, and ends with 0 when it is asked to', async () => {
  const run = runCli(['serve', '--port', '0', '--data-dir', 'here'], { cwd: folder });
  try {
    const found = await waitFor('the address', () => LISTENING.exec(run.stderr()), { timeoutMs: 20_000 });
    const [, url = '', port = ''] = found;
    expect(run.stderr()).toContain(`  curl -F file=@recording.mp3 ${url}/v1/transcriptions\n`);
    expect((await fetch(`${url}/health/live`)).status).toBe(200);

    const second = await runCli(['serve', '--port', port, '--data-dir', 'there'], { cwd: folder }).ended;
    expect(second.stderr).toBe(
      `error: Port ${port} is in use already. Choose another with PORT or --port; 0 takes a free one.\n`,
    );
    expect(second.code).toBe(1);

    const env = { SIDECAR_COMMAND: JSON.stringify(['sh', '-c', 'echo > loading']) };
    const third = await runCli(['serve', '--port', '0', '--data-dir', 'here'], { cwd: folder, env }).ended;
    expect(third.stderr).toMatch(/error: Another Zeroscribe is already working in .*here\./);
    expect(third.code).toBe(1);
    // Its models would have taken memory from the jobs of the first.
    expect(await readdir(folder)).not.toContain('loading');
  } finally {
    run.process.kill('SIGTERM');
  }
  expect((await run.ended).code).toBe(0);
}, 30_000);

test('a wrong environment is told, and nothing starts', async () => {
  const env = { PORT: 'eighty', DATA_DIR: join(folder, 'data') };
  const { code, stderr } = await runCli(['serve'], { cwd: folder, env }).ended;
  expect(stderr).toMatch(/^error: The environment is not valid:\n {2}PORT: must be a whole number/);
  expect(code).toBe(1);
});
