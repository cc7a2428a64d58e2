import { expect, test } from '@jest/globals';
import { hasGcloud, lintGcloudCommands } from '../tests/support/gcloud-linter.ts';
import { explain } from './explain.ts';
import { ENVIRONMENT_VALUES, KNOWN_ERRORS } from './known-errors.ts';

const isThere = await hasGcloud();
if (!isThere) console.info('skipped: there is no gcloud here to check the commands with');

(isThere ? test : test.skip)(
  'every command that the table of errors names is one that gcloud has',
  async () => {
    const environment = {
      ...Object.fromEntries(ENVIRONMENT_VALUES.map((name) => [name, 'some-name'])),
      region: 'europe-west1',
      account: 'user:somebody@example.com',
    };
    const commands = KNOWN_ERRORS.flatMap(({ sample }) => explain(sample, environment) ?? [])
      .flatMap((explanation) => explanation.commands)
      .filter((command) => command.startsWith('gcloud '));
    expect(commands.length).toBeGreaterThan(50);
    expect(await lintGcloudCommands([...new Set(commands)])).toEqual([]);
  },
  120_000,
);
