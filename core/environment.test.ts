import { describe, expect, test } from '@jest/globals';
import { ConfigError, readTogether } from './environment.ts';
import { readPlatformConfig } from './platform.ts';
import { readPrivateServiceConfig } from './private-service.ts';

function messageOf(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as Error).message;
  }
  throw new Error('it was read');
}

describe('what a cloud service reads together', () => {
  const read = (env: NodeJS.ProcessEnv) =>
    messageOf(() =>
      readTogether({ service: () => readPrivateServiceConfig(env), platform: () => readPlatformConfig(env) }),
    );

  test('is told in our own words, each variable once', () => {
    expect(read({ PORT: '-1', TASK_AUTH: 'yes', STORE: 's3', CPU_SERVICE_URL: 'here' }).split('\n')).toEqual([
      'The environment is not valid:',
      '  PORT: must be a whole number from 0 to 65535',
      '  TASK_AUTH: must be iam, verify or none',
      '  STORE: must be disk or gcs',
      '  CLOUD_TASKS_QUEUES: is needed',
      '  CPU_SERVICE_URL: must be an address, such as https://example.com',
      '  TASK_INVOKER_EMAIL: is needed',
      '  BACKENDS: is needed',
    ]);
  });

  test.each([
    ['nothing', 'must be a JSON list of backends'],
    ['{}', 'must be a JSON list of backends'],
    ['[]', 'must name a backend'],
    ['[{"name": "a", "tier": "gold", "kind": "server"}]', '0.tier: must be premium or standard'],
    ['[{"name": "a", "tier": "premium", "kind": "server"}]', '0.url: is needed'],
    [
      '[{"name": "a", "tier": "premium", "kind": "server", "url": "https://a.example", "uri": ""}]',
      '0: there is no uri',
    ],
    [
      '[{"name": "a", "tier": "premium", "kind": "cloud-run-job", "job": "b"}]',
      '0.job: must be projects/P/locations/L/jobs/J',
    ],
    [
      '[{"name": "a", "tier": "premium", "kind": "standalone"}, {"name": "a", "tier": "standard", "kind": "voxtral"}]',
      'has two backends with the name a',
    ],
  ])('a wrong list of backends: %s', (BACKENDS, message) => {
    expect(read({ BACKENDS })).toContain(`  BACKENDS: ${message}\n`.trimEnd());
  });
});

test('one wrong sentence stays as it is', () => {
  const wrong = () => {
    throw new ConfigError('Set it.');
  };
  expect(messageOf(() => readTogether({ a: wrong, b: () => 1 }))).toBe('Set it.');
});
