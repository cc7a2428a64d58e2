import { randomBytes } from 'node:crypto';
import { usesMistral } from '../access.ts';
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
    return wantedSecrets(context).flatMap(({ name, value }): Change[] => {
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

/** Of those that only the operator has, also the ones that they have not given: `up` refuses, and a plan says so. */
function wantedSecrets({ layout, env }: StepContext): Secret[] {
  const { name: environmentName, secrets: names } = layout.environment;
  const given = (variable: string): Secret['value'] => ({
    shown: `$${variable}`,
    text: () => env[variable]?.trim() ?? '',
  });
  return [
    { name: names.apiKeys, value: random((text) => `${environmentName}:zs-${text}`) },
    { name: names.urlSigningKey, value: random((text) => text) },
    ...(names.mistralApiKey !== undefined && usesMistral(layout)
      ? [{ name: names.mistralApiKey, value: given('MISTRAL_API_KEY') }]
      : []),
    ...(names.hfToken !== undefined && isGiven(env, 'HF_TOKEN')
      ? [{ name: names.hfToken, value: given('HF_TOKEN') }]
      : []),
  ];
}

function isGiven(env: NodeJS.ProcessEnv, variable: string): boolean {
  return (env[variable] ?? '').trim() !== '';
}

/** Whether the key is needed, has no value, and is not given either. */
export function lacksMistralKey({
  layout,
  env,
  deployed,
}: StepContext & { deployed: Pick<Deployed, 'secrets'> }): boolean {
  const { mistralApiKey } = layout.environment.secrets;
  if (mistralApiKey === undefined || !usesMistral(layout)) return false;
  return deployed.secrets.get(mistralApiKey)?.hasValue !== true && !isGiven(env, 'MISTRAL_API_KEY');
}

export function mistralKeyNeeded({ environment: { name, secrets, backends } }: Layout): string {
  const backend = backends.find(({ kind }) => kind === 'voxtral')?.name;
  return `The secret ${secrets.mistralApiKey} has no value, and the backend ${backend} needs a key of Mistral's. Make one at https://console.mistral.ai/api-keys and give it to \`up\` once: in the variable MISTRAL_API_KEY, or by its standard input with --mistral-key-stdin. Or take the backend out of deploy/environments/${name}.ts.`;
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
