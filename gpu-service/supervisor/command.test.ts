import { execFileSync } from 'node:child_process';
import { describe, expect, test } from '@jest/globals';
import { sidecarCommand, sidecarEnvironment } from './command.ts';
import type { SidecarConfig } from './protocol.ts';

describe('the sidecar’s command line', () => {
  test('ends with its configuration', () => {
    const config = { default_model: 'tiny.en', batch_size: 8 } as SidecarConfig;
    const command = sidecarCommand(config, '/venv/bin/python');
    expect(command.slice(0, -1)).toEqual(['/venv/bin/python', '-m', 'zeroscribe_sidecar']);
    expect(JSON.parse(command.at(-1) ?? '')).toEqual(config);
  });
});

describe('the sidecar’s environment', () => {
  test('carries what Python and CUDA need, and none of our secrets', () => {
    const needed = { PATH: '/usr/bin', LC_ALL: 'C.UTF-8', CUDA_VISIBLE_DEVICES: '0', OMP_NUM_THREADS: '2' };
    const secrets = { API_KEYS: 'a:b', HF_TOKEN: 'hf_x', MISTRAL_API_KEY: 'x', URL_SIGNING_KEY: 'x' };
    const others = {
      GOOGLE_APPLICATION_CREDENTIALS: '/key',
      PYTHONSTARTUP: 'x',
      NODE_OPTIONS: 'x',
      XPATH: 'x',
    };
    const environment = sidecarEnvironment({ ...needed, ...secrets, ...others });
    expect(environment).toMatchObject(needed);
    for (const name of Object.keys({ ...secrets, ...others })) expect(environment).not.toHaveProperty(name);
  });

  test('keeps libraries off the network, whatever ours says', () => {
    const environment = sidecarEnvironment({ HF_HUB_OFFLINE: '0' });
    expect(environment).toMatchObject({
      HF_HUB_OFFLINE: '1',
      PYANNOTE_METRICS_ENABLED: '0',
      ORT_DISABLE_TELEMETRY: '1',
    });
  });

  test('has threads wait passively, unless the operator wants it otherwise', () => {
    expect(sidecarEnvironment({})).toHaveProperty('OMP_WAIT_POLICY', 'PASSIVE');
    expect(sidecarEnvironment({ OMP_WAIT_POLICY: 'ACTIVE' })).toHaveProperty('OMP_WAIT_POLICY', 'ACTIVE');
  });

  test('is all that the child sees', () => {
    const seen = execFileSync('env', {
      env: sidecarEnvironment({ PATH: process.env.PATH, HF_TOKEN: 'hf_x' }),
    });
    expect(seen.toString()).not.toContain('hf_x');
  });
});
