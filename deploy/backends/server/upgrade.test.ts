import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';

const INSTALL = join(import.meta.dirname, 'install.sh');
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'upgrade-'));
  tool('systemctl', `echo "$1" >> "${folder}/calls"`);
  for (const name of ['npm', 'python3']) tool(name, 'exit 0');
  // As the machine sees a root user, whoever runs the test.
  tool('id', 'echo 0');
});
afterEach(() => rmSync(folder, { recursive: true }));

function tool(name: string, script: string): void {
  writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, name), 0o755);
}

/** What systemd was asked to do. */
function upgrade(): { status: number | null; calls: string[] } {
  const { status } = spawnSync('/bin/sh', [INSTALL, 'upgrade', '--mode', 'wrong'], {
    env: { PATH: `${folder}:/usr/bin:/bin` },
  });
  return { status, calls: readFileSync(join(folder, 'calls'), 'utf8').trim().split('\n') };
}

test('an upgrade that is refused leaves the service running', () => {
  tool('node', 'exit 3');
  expect(upgrade()).toEqual({ status: 3, calls: ['is-active', 'stop', 'start'] });
});

test('one that succeeds starts it by itself', () => {
  tool('node', 'exit 0');
  expect(upgrade()).toEqual({ status: 0, calls: ['is-active', 'stop'] });
});

test('a service that did not run is not started', () => {
  tool('systemctl', `echo "$1" >> "${folder}/calls"; exit 3`);
  tool('node', 'exit 3');
  expect(upgrade()).toEqual({ status: 3, calls: ['is-active'] });
});
