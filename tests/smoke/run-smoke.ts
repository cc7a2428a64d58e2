import { Client } from '../../cli/client.ts';
import { identityHeaders } from '../../cli/identity-headers.ts';
import { interruption } from '../../cli/interruption.ts';
import { openSampleRecording } from '../../cli/recording.ts';
import { print } from '../../cli/stdout.ts';
import { UsageError } from '../../cli/usage-error.ts';
import { openProject } from '../../deploy/deployment.ts';
import { loadEnvironment } from '../../deploy/environment.ts';
import type { GcloudOptions } from '../../deploy/gcloud.ts';
import { smoke } from './smoke.ts';

/** What failed is printed already. Exit code 1. */
export class SmokeFailed extends Error {
  override readonly name = 'SmokeFailed';
}

export interface SmokeFlags {
  isShort: boolean;
  timeoutSeconds: number;
}

/**
 * `deploy smoke`: against ZEROSCRIBE_URL with ZEROSCRIBE_API_KEY, and ZEROSCRIBE_IDENTITY_TOKEN where Google's front end
 * asks for one; what is not given is looked up for the environment. @throws {SmokeFailed}
 */
export async function runSmoke(name: string, { isShort, timeoutSeconds }: SmokeFlags): Promise<void> {
  const signal = interruption();
  const client = await connectTo(name, process.env, { signal });
  const recording = await openSampleRecording();
  await print(`Testing ${client.server} with a recording of 30 s\n`);
  // One after the other, whoever reads.
  let printed = Promise.resolve();
  const result = await smoke({
    client,
    recording,
    expectedText: /New Jersey/i,
    isShort,
    timeoutMs: timeoutSeconds * 1_000,
    signal,
    say: (line) => {
      printed = printed.then(() => print(`${line}\n`));
    },
  });
  await printed;
  const { passed, failed, skipped } = result;
  const summary = `${passed} ok, ${skipped} skipped, ${failed} failed`;
  await print(`${summary}\n`);
  if (failed > 0) {
    throw new SmokeFailed(
      `${failed} of the checks failed. \`npm run deploy -- doctor --environment ${name}\` looks for the reason.`,
    );
  }
}

async function connectTo(name: string, env: NodeJS.ProcessEnv, options: GcloudOptions): Promise<Client> {
  const { ZEROSCRIBE_URL, ZEROSCRIBE_API_KEY, ZEROSCRIBE_IDENTITY_TOKEN } = env;
  if (ZEROSCRIBE_URL) {
    return new Client(
      ZEROSCRIBE_URL.replace(/\/+$/, ''),
      ZEROSCRIBE_API_KEY || undefined,
      identityHeaders(ZEROSCRIBE_IDENTITY_TOKEN),
    );
  }
  const environment = await loadEnvironment(name);
  const { gcloud, layout } = await openProject(environment, { env, gcloud: options });
  const key =
    ZEROSCRIBE_API_KEY ||
    firstKey(
      await gcloud.run({
        args: ['secrets', 'versions', 'access', 'latest', `--secret=${environment.secrets.apiKeys}`],
      }),
    );
  const token =
    ZEROSCRIBE_IDENTITY_TOKEN ||
    (environment.api.access === 'iam'
      ? (await gcloud.run({ args: ['auth', 'print-identity-token'] })).trim()
      : undefined);
  return new Client(environment.api.publicUrl ?? layout.urls.api, key, identityHeaders(token));
}

/** API_KEYS: `name:key`, separated by commas, or one bare key. */
function firstKey(text: string): string {
  const [first = ''] = text.trim().split(',');
  if (first.includes('sha256:')) {
    throw new UsageError('The service knows only the hashes of its keys. Give one in ZEROSCRIBE_API_KEY.');
  }
  return first.slice(first.indexOf(':') + 1);
}
