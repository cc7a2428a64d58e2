import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';

let secrets: string;
beforeEach(() => {
  secrets = mkdtempSync(join(tmpdir(), 'secrets-'));
});
afterEach(() => rmSync(secrets, { recursive: true }));

/** The variables that a command of a build sees, with the secrets in our folder instead of the engine's. */
function variables(): Record<string, string> {
  const script = readFileSync(join(import.meta.dirname, 'with-builder-settings.sh'), 'utf8');
  const ours = script.replace('secrets=/run/secrets', `secrets='${secrets}'`);
  expect(ours).not.toBe(script);
  const print = 'process.stdout.write(JSON.stringify(process.env))';
  const output = execFileSync('/bin/sh', ['-c', ours, 'sh', process.execPath, '-e', print], {
    env: { PATH: '/usr/bin:/bin' },
    encoding: 'utf8',
  });
  const { PATH: _, PWD: __, OLDPWD: ___, SHLVL: ____, ...rest } = JSON.parse(output);
  return rest;
}

test('without secrets a command runs as it is', () => {
  expect(variables()).toEqual({});
});

test('settings are named where pip, npm and Node look for them, and the token is handed on', () => {
  for (const name of ['pip_conf', 'npmrc', 'ca_certificates']) writeFileSync(join(secrets, name), '');
  writeFileSync(join(secrets, 'hf_token'), 'a-token\n');
  expect(variables()).toMatchObject({
    PIP_CONFIG_FILE: join(secrets, 'pip_conf'),
    NPM_CONFIG_USERCONFIG: join(secrets, 'npmrc'),
    NODE_EXTRA_CA_CERTS: join(secrets, 'ca_certificates'),
    PIP_CERT: join(secrets, 'ca_certificates'),
    HF_TOKEN: 'a-token',
  });
});
