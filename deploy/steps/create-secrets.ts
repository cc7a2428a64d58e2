import { randomBytes } from 'node:crypto';
import { UsageError } from '../../cli/usage-error.ts';
import type { Environment } from '../environment.ts';
import type { Command } from '../gcloud.ts';
import type { Layout } from '../layout.ts';
import type { Deployed } from '../observe.ts';
import type { Change, Step, StepContext } from '../step.ts';
import { labelText } from './create-repository.ts';

interface Secret {
  name: string;
  value: NonNullable<Command['input']>;
}

export const createSecrets: Step = {
  title: 'secrets',
  changes(deployed, context) {
    const { layout } = context;
    return wantedSecrets(context, deployed).flatMap(({ name, value }): Change[] => {
      const found = deployed.secrets.get(name);
      if (found?.hasValue) return [];
      const args =
        found === undefined
          ? [
              'secrets',
              'create',
              name,
              // Automatic replication is forbidden where an organisation says where resources may be.
              '--replication-policy=user-managed',
              `--locations=${layout.region}`,
              `--labels=${labelText(layout.labels)}`,
              '--data-file=-',
            ]
          : ['secrets', 'versions', 'add', name, '--data-file=-'];
      return [{ title: `give the secret ${name} a value`, commands: [{ args, input: value }] }];
    });
  },
};

/** @throws {UsageError} when one is needed that only the user has */
function wantedSecrets({ layout, env }: StepContext, { secrets }: Deployed): Secret[] {
  const { name: environmentName, secrets: names } = layout.environment;
  const given = (variable: string): Secret['value'] | undefined => {
    const value = env[variable];
    return value === undefined || value === '' ? undefined : { shown: `$${variable}`, text: () => value };
  };
  const mistral = given('MISTRAL_API_KEY');
  const isMissing = names.mistralApiKey !== undefined && secrets.get(names.mistralApiKey)?.hasValue !== true;
  if (isMissing && mistral === undefined) {
    throw new UsageError(
      `The secret ${names.mistralApiKey} has no value. Set MISTRAL_API_KEY for this command, or take mistralApiKey out of deploy/environments/${environmentName}.ts.`,
    );
  }
  const token = given('HF_TOKEN');
  return [
    { name: names.apiKeys, value: random((text) => `${environmentName}:zs-${text}`) },
    { name: names.urlSigningKey, value: random((text) => text) },
    ...(names.mistralApiKey !== undefined && mistral !== undefined
      ? [{ name: names.mistralApiKey, value: mistral }]
      : []),
    ...(names.hfToken !== undefined && token !== undefined ? [{ name: names.hfToken, value: token }] : []),
  ];
}

function random(form: (text: string) => string): Secret['value'] {
  return { shown: '(32 random bytes)', text: () => form(randomBytes(32).toString('base64url')) };
}

/** Whether the image can be built with the gated diarization model. */
export function hasHfToken(
  { secrets: { hfToken } }: Environment,
  { secrets }: Deployed,
  env: NodeJS.ProcessEnv,
): boolean {
  if (hfToken === undefined) return false;
  return secrets.get(hfToken)?.hasValue === true || (env.HF_TOKEN ?? '') !== '';
}

/** How whoever deployed reads the key for the API. */
export function readApiKeyCommand(layout: Layout): string {
  return `gcloud secrets versions access latest --secret=${layout.environment.secrets.apiKeys} --project=${layout.project.id}`;
}
