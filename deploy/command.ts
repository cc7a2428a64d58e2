import type { Command } from 'commander';
import { wholeNumber } from '../cli/whole-number.ts';

interface EnvironmentOptions {
  environment: string;
}

interface DoctorFlags {
  fix?: true;
  yes?: true;
  explain?: string;
}

/** `zeroscribe deploy …`. What does it is loaded when it is asked for: most who start the command line want a transcript. */
export function addDeploy(program: Command): void {
  const deploy = program
    .command('deploy')
    .summary('put the service on Google Cloud, look after it, take it down')
    .description(
      'Put the service on Google Cloud as deploy/environments says. Needs gcloud; docs/deploy.md begins at nothing.',
    );
  verb(deploy, 'plan', 'show what `up` would change, or without an account what a first one does').action(
    async ({ environment }: EnvironmentOptions) => (await actions()).runPlan(environment),
  );
  verb(deploy, 'up', 'make everything as the environment says; started again, it goes on where it broke off')
    .option(
      '--mistral-key-stdin',
      'read the key for Mistral’s API from the standard input; without it, MISTRAL_API_KEY has it',
    )
    .action(async ({ environment, mistralKeyStdin }: EnvironmentOptions & { mistralKeyStdin?: true }) =>
      (await actions()).runUp(environment, { mistralKeyOnStdin: mistralKeyStdin === true }),
    );
  verb(deploy, 'status', 'show what is deployed, its health, queues and runs').action(
    async ({ environment }: EnvironmentOptions) => (await actions()).runStatus(environment),
  );
  verb(deploy, 'doctor', 'look for what is wrong, before a deploy and after it, and say what helps')
    .option('--fix', 'run the commands that put it right, after asking')
    .option('-y, --yes', 'do not ask')
    .option('--explain <file>', 'instead, say what an error in this file means; - reads it from a pipe')
    .action(async ({ environment, fix, yes, explain }: EnvironmentOptions & DoctorFlags) => {
      const { runDoctor, runExplain } = await import('./doctor/run-doctor.ts');
      await (explain === undefined
        ? runDoctor(environment, { isFixing: fix === true, isConfirmed: yes === true })
        : runExplain(environment, explain));
    });
  verb(deploy, 'smoke', 'transcribe a sample recording with the deployed service in every way it offers')
    .option('--short', 'one transcription only')
    .option(
      '--timeout <seconds>',
      'how long one may take, the first cold start included',
      wholeNumber(10, 7_200),
      1_200,
    )
    .action(
      async ({ environment, short, timeout }: EnvironmentOptions & { short?: true; timeout: number }) => {
        const { runSmoke } = await import('../tests/smoke/run-smoke.ts');
        await runSmoke(environment, { isShort: short === true, timeoutSeconds: timeout });
      },
    );
  verb(
    deploy,
    'server-settings <backend>',
    'print what a GPU server of your own needs to know: deploy/backends/server',
  ).action(async (backend: string, { environment }: EnvironmentOptions) =>
    (await actions()).runServerSettings(environment, backend),
  );
  verb(deploy, 'down', 'remove everything that `up` made')
    .option('-y, --yes', 'do not ask')
    .option('--delete-data', 'the bucket with recordings and transcripts too')
    .option('--keep-queues', 'leave the queues: the names of deleted ones cannot be used again for some days')
    .action(async (options: EnvironmentOptions & { yes?: true; deleteData?: true; keepQueues?: true }) =>
      (await actions()).runDown(options.environment, {
        isConfirmed: options.yes === true,
        deleteData: options.deleteData === true,
        keepQueues: options.keepQueues === true,
      }),
    );
}

function verb(deploy: Command, name: string, summary: string): Command {
  return deploy
    .command(name)
    .description(summary)
    .option('-e, --environment <name>', 'which of deploy/environments', 'staging');
}

function actions() {
  return import('./actions.ts');
}
