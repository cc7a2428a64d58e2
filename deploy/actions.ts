import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { text as readAll } from 'node:stream/consumers';
import { interruption } from '../cli/interruption.ts';
import { print } from '../cli/stdout.ts';
import { UsageError } from '../cli/usage-error.ts';
import { formatEnvironmentFile } from './backends/server/environment-file.ts';
import { serverVariables } from './backends/server/server-variables.ts';
import {
  type DeploymentOptions,
  imaginedDeployment,
  NoProject,
  openDeployment,
  openProject,
} from './deployment.ts';
import { type DownOptions, findRemovals, leftBehind, remove } from './down.ts';
import { type Environment, loadEnvironment } from './environment.ts';
import { describeExplanation, explain, withoutSecrets } from './explain.ts';
import { GcloudError } from './gcloud.ts';
import type { Layout } from './layout.ts';
import { observe } from './observe.ts';
import { notes, planSteps, planText } from './plan.ts';
import { readStatus, statusText } from './status.ts';
import { readApiKeyCommand } from './steps/create-secrets.ts';
import { StepFailed, up } from './up.ts';

/** What was tried, what gcloud said, and what is known about it. */
export class DeployFailed extends Error {
  override readonly name = 'DeployFailed';
}

export async function runPlan(name: string): Promise<void> {
  const environment = await loadEnvironment(name);
  const options = deploymentOptions();
  await inWords(environment, undefined, async () => {
    const deployment = await openDeployment(environment, options).catch((error: unknown) => {
      if (!(error instanceof NoProject)) throw error;
      say(`${reasonOf(error, environment)}\n\nSo this is what a first deployment would do.\n`);
      return imaginedDeployment(environment, options.env);
    });
    await print(planText(deployment.layout, planSteps(deployment)));
    await print(noteText(notes(deployment)));
  });
}

export async function runUp(
  name: string,
  { mistralKeyOnStdin }: { mistralKeyOnStdin: boolean },
): Promise<void> {
  const environment = await loadEnvironment(name);
  const env = mistralKeyOnStdin
    ? { ...process.env, MISTRAL_API_KEY: await readSecret('The key of Mistral: ') }
    : process.env;
  say(`Looking at what there is of ${name} …`);
  const deployment = await inWords(environment, undefined, () =>
    openDeployment(environment, { ...deploymentOptions(), env }),
  );
  const { layout, deployed } = deployment;
  const { mistralApiKey } = layout.environment.secrets;
  if (mistralKeyOnStdin && mistralApiKey !== undefined && deployed.secrets.get(mistralApiKey)?.hasValue) {
    say(
      `The secret ${mistralApiKey} has a value, which stays. Another one, for instances that start later: gcloud secrets versions add ${mistralApiKey} --data-file=- --project=${layout.project.id}`,
    );
  }
  const hints = noteText(notes(deployment));
  if (hints !== '') say(hints);
  const made = await inWords(environment, layout, () => up(deployment, { say }));
  say(
    `\n${made === 0 ? 'Everything was as it should be.' : 'Done.'}\n\nThe API: ${layout.urls.api}\nIts key: ${readApiKeyCommand(layout)}\nTry it:  npm run deploy -- smoke --environment ${name}`,
  );
}

export async function runStatus(name: string): Promise<void> {
  const environment = await loadEnvironment(name);
  await inWords(environment, undefined, async () => {
    const place = await openProject(environment, deploymentOptions());
    await print(statusText(place.layout, await readStatus(place)));
  });
}

export async function runServerSettings(name: string, backendName: string): Promise<void> {
  const environment = await loadEnvironment(name);
  const servers = environment.backends.filter((backend) => backend.kind === 'server');
  const backend = servers.find((server) => server.name === backendName);
  if (backend === undefined) {
    const names = servers.map((server) => server.name).join(', ') || 'none';
    throw new UsageError(
      `${name} has no backend ${backendName} of the kind server. Those it has: ${names}; see deploy/backends/server/README.md.`,
    );
  }
  await inWords(environment, undefined, async () => {
    const { layout } = await openProject(environment, deploymentOptions());
    await print(formatEnvironmentFile(serverVariables(layout, backend)));
  });
}

export async function runDown(
  name: string,
  { isConfirmed, ...options }: DownOptions & { isConfirmed: boolean },
): Promise<void> {
  const environment = await loadEnvironment(name);
  await inWords(environment, undefined, async () => {
    const { layout, gcloud } = await openProject(environment, deploymentOptions());
    const deployed = await observe(gcloud, layout, { withPolicies: false });
    const groups = await findRemovals({ gcloud, layout, deployed }, options);
    if (groups.length === 0) {
      say(`There is nothing of ${name} in the project ${layout.project.id}.`);
      return;
    }
    say(`To be removed from the project ${layout.project.id}:`);
    for (const { title } of groups.flat()) say(`  ${title}`);
    say('Stays:');
    for (const line of leftBehind(layout, deployed, options)) say(`  ${line}`);
    if (!isConfirmed) await confirm(name, options.deleteData ? layout.bucket : undefined);
    await remove(gcloud, groups, say);
    if (!options.keepQueues) {
      say(
        `\nDone. The names of the queues cannot be used again for some days: to deploy ${name} again before that, set queuePrefix in deploy/environments/${name}.ts.`,
      );
    }
  });
}

/** @throws {UsageError} when the answer is not the name */
async function confirm(name: string, bucket: string | undefined): Promise<void> {
  if (!process.stdin.isTTY) throw new UsageError('Nobody can be asked here: --yes says that it is meant.');
  const questions = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const wanted = [[name, 'the environment'], ...(bucket === undefined ? [] : [[bucket, 'the bucket']])];
    for (const [word, what] of wanted) {
      const answer = await questions.question(`Type the name of ${what}, ${word}, to remove it: `);
      if (answer.trim() !== word) throw new UsageError('Nothing was removed.');
    }
  } finally {
    questions.close();
  }
}

/** What is piped in, or typed unseen. @throws {UsageError} when there is nothing */
async function readSecret(prompt: string): Promise<string> {
  let secret: string;
  if (process.stdin.isTTY) {
    process.stderr.write(prompt);
    const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
    const questions = createInterface({ input: process.stdin, output: nowhere, terminal: true });
    try {
      secret = await questions.question('');
    } finally {
      questions.close();
      process.stderr.write('\n');
    }
  } else secret = await readAll(process.stdin);
  if (secret.trim() === '') throw new UsageError('There is no key on the standard input.');
  return secret.trim();
}

function deploymentOptions(): DeploymentOptions {
  return {
    env: process.env,
    gcloud: { signal: interruption() },
  };
}

/** Errors of gcloud with what is known about them. */
async function inWords<T>(
  environment: Environment,
  layout: Layout | undefined,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof StepFailed) {
      throw new DeployFailed(
        `${error.message}\n\n${described(error.cause, environment, layout)}\n\nWhat was done stays: \`npm run deploy -- up\` goes on from here.`,
      );
    }
    if (error instanceof GcloudError) throw new DeployFailed(described(error, environment, layout));
    if (error instanceof NoProject) throw new DeployFailed(reasonOf(error, environment));
    throw error;
  }
}

function reasonOf(error: NoProject, environment: Environment): string {
  return error.cause instanceof GcloudError
    ? `${error.message}\n\n${described(error.cause, environment, undefined)}`
    : error.message;
}

/** What gcloud said, whole, and then what is known about it. */
function described(error: GcloudError, environment: Environment, layout: Layout | undefined): string {
  const explanations = explain(error.output, {
    region: environment.region,
    project: layout?.project.id ?? environment.project,
    project_number: layout?.project.number,
    bucket: layout?.bucket,
    repository: layout?.repository,
    invoker: layout?.accounts.invoker,
  });
  return [
    `$ ${error.command}\n${withoutSecrets(error.output.trim())}`,
    ...(explanations ?? []).map(describeExplanation),
  ].join('\n\n');
}

function noteText(lines: readonly string[]): string {
  return lines.length === 0 ? '' : `\nNote:\n${lines.map((line) => `  ${line}`).join('\n')}\n`;
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
