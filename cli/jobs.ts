import { type Command, Option } from 'commander';
import { FORMAT_NAMES } from '../core/formats/format-options.ts';
import { JOB_STATUSES } from '../core/job.ts';
import type { Transcription } from './client.ts';
import { jobSheet, jobTable } from './job-table.ts';
import { printable } from './printable.ts';
import { addServerOptions, connect, DEFAULT_SERVER, type ServerOptions } from './server-options.ts';
import { print } from './stdout.ts';
import { wholeNumber } from './whole-number.ts';

interface JobsOptions extends ServerOptions {
  json?: true;
}

interface ListOptions extends JobsOptions {
  status?: string;
  limit: number;
  after?: string;
}

const DEFAULT_LIMIT = 20;

export function addJobs(program: Command): void {
  const jobs = program
    .command('jobs')
    .summary('list, show, cancel, retry and delete transcriptions of a service')
    .description('Look after the transcriptions of a running service.');

  const listing = verb(jobs, 'list', 'list transcriptions, the newest first', { isDefault: true })
    .addOption(new Option('--status <status>', 'only those with this status').choices(JOB_STATUSES))
    .option('--limit <n>', 'at most so many', wholeNumber(1, 100), DEFAULT_LIMIT)
    .option('--after <id>', 'only those older than this one')
    // What is no command comes here, as an argument of the default.
    .allowExcessArguments()
    .action(async (options: ListOptions) => {
      const [unexpected] = listing.args;
      if (unexpected !== undefined) refuse(jobs, unexpected);
      await list(options);
    });
  // Those of the default are what `jobs` alone understands.
  jobs.addHelpText('after', () =>
    listing
      .helpInformation()
      .replace(/^[\s\S]*?\nOptions:/, '\nOptions of list, also without the word list:')
      .trimEnd(),
  );
  jobs.addHelpText(
    'after',
    `
Examples:
  zeroscribe jobs
  zeroscribe jobs --status failed --limit 5
  zeroscribe jobs transcript ID --format srt > talk.srt
  zeroscribe jobs show ID --server https://transcribe.example.com --json

Exit codes: 0 done, 1 the service refused or cannot be reached, 2 wrong usage.`,
  );

  verb(jobs, 'show', 'show all that is known of a transcription')
    .argument('<ID>')
    .action(async (id: string, options: JobsOptions) => {
      const job = await connect(options).get(id);
      await print(options.json ? asJson(job) : jobSheet(job));
    });

  addServerOptions(jobs.command('transcript'), 'the service', DEFAULT_SERVER)
    .description('print the transcript of a transcription')
    .argument('<ID>')
    .addOption(new Option('-f, --format <format>', 'how to write it').choices(FORMAT_NAMES).default('txt'))
    .action(async (id: string, options: JobsOptions & { format: string }) => {
      await print(await connect(options).transcript(id, options.format));
    });

  verb(jobs, 'cancel', 'stop a transcription that is not finished')
    .argument('<ID>')
    .action(async (id: string, options: JobsOptions) => {
      await tell(await connect(options).cancel(id), options, (job) =>
        job.status === 'processing' ? 'will be canceled within seconds' : `is ${job.status}`,
      );
    });

  verb(jobs, 'retry', 'run again what failed or was canceled of a transcription')
    .argument('<ID>')
    .action(async (id: string, options: JobsOptions) => {
      await tell(await connect(options).retry(id), options, (job) => `is ${job.status}`);
    });

  verb(jobs, 'delete', 'delete a transcription with its recording and transcript, for good')
    .argument('<ID>')
    .action(async (id: string, options: JobsOptions) => {
      await connect(options).delete(id);
      await print(options.json ? asJson({ id, deleted: true }) : `${printable(id)} is deleted\n`);
    });
}

function verb(
  jobs: Command,
  name: string,
  description: string,
  settings: { isDefault?: boolean } = {},
): Command {
  return addServerOptions(jobs.command(name, settings), 'the service', DEFAULT_SERVER)
    .description(description)
    .option('--json', 'print JSON, as the API answers');
}

/** @throws {CommanderError} */
function refuse(jobs: Command, unexpected: string): never {
  const names = jobs.commands.map((command) => command.name()).join(', ');
  jobs.error(
    jobs.args[0] === 'list'
      ? `error: list takes no arguments, but got '${printable(unexpected)}'.`
      : `error: unknown command '${printable(unexpected)}'. Commands are ${names}.`,
  );
}

async function list(options: ListOptions): Promise<void> {
  const { status, limit, after } = options;
  const page = await connect(options).list({
    limit,
    ...(status === undefined ? {} : { status }),
    ...(after === undefined ? {} : { after }),
  });
  if (options.json) return await print(asJson(page));
  const last = page.data.at(-1);
  if (last === undefined) {
    process.stderr.write('No transcriptions.\n');
    return;
  }
  await print(jobTable(page.data));
  if (page.has_more) process.stderr.write(`There are more: ${nextPage(options, last.id)}\n`);
}

/** The command for it, with what this one was told; except for the key, which does not belong on a screen. */
function nextPage({ status, limit, server = DEFAULT_SERVER }: ListOptions, lastId: string): string {
  const flags = [
    ...(status === undefined ? [] : ['--status', status]),
    ...(limit === DEFAULT_LIMIT ? [] : ['--limit', limit]),
    ...(server === DEFAULT_SERVER ? [] : ['--server', server]),
    '--after',
    lastId,
  ];
  return printable(`zeroscribe jobs ${flags.join(' ')}`);
}

async function tell(
  job: Transcription,
  options: JobsOptions,
  describe: (job: Transcription) => string,
): Promise<void> {
  await print(options.json ? asJson(job) : `${printable(job.id)} ${describe(job)}\n`);
}

function asJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
