import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { REPOSITORY_ROOT } from '../../../core/installation.ts';
import { giveKey, install, uninstall } from './install.ts';
import { Machine } from './machine.ts';
import { Refusal } from './refusal.ts';
import type { ServerMode } from './unit.ts';

interface CommonOptions {
  dryRun?: true;
  root: string;
}

const say = (line: string) => process.stdout.write(`${line}\n`);

const program = new Command('install.sh')
  .description('Run Zeroscribe as a service on this machine. README.md beside this file says more.')
  .showHelpAfterError('(--help shows what can be asked for)');

verb('install', 'install the service, or change or upgrade what is installed')
  .addOption(
    new Option('--mode <mode>', 'all of it here, or the transcriber alone').choices([
      'standalone',
      'cloud-tasks',
    ]),
  )
  .option('--domain <name>', 'under which this machine is reached, with TLS')
  .option('--port <n>', 'on loopback, for the proxy in front (default: 8080)')
  .option('--settings <file>', 'variables of docs/configuration.md, as NAME=value')
  .option('--credentials <file>', 'for Cloud Storage and Cloud Tasks, outside Google’s own machines')
  .option('--memory-max <size>', 'such as 24G: more than that and the transcriber is started anew')
  .addOption(new Option('--device <device>', 'where the models run (default: cuda)').choices(['cuda', 'cpu']))
  .action(
    async (
      options: CommonOptions & {
        mode?: ServerMode;
        domain?: string;
        port?: string;
        settings?: string;
        credentials?: string;
        memoryMax?: string;
        device?: 'cpu' | 'cuda';
      },
    ) => {
      const { settings, credentials, ...rest } = options;
      const files = { settings: contentOf(settings), credentials: contentOf(credentials) };
      const where = { folder: REPOSITORY_ROOT.replace(/\/$/, ''), node: process.execPath };
      await install(machineOf(options), where, { ...rest, ...files }, say);
    },
  );

verb('add-key <name>', 'make another key for the API of a standalone service').action(
  (name: string, options: CommonOptions) => giveKey(machineOf(options), name, say),
);

verb('uninstall', 'stop the service and remove it')
  .option('--purge', 'recordings, transcripts and settings too')
  .action((options: CommonOptions & { purge?: true }) =>
    uninstall(machineOf(options), { isPurge: options.purge === true }, say),
  );

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof Refusal)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}

function verb(name: string, summary: string): Command {
  return program
    .command(name)
    .description(summary)
    .option('--dry-run', 'say what would be done, and do nothing')
    .option('--root <folder>', 'write below this folder and run no command, for packages and tests', '/');
}

function machineOf({ dryRun, root }: CommonOptions): Machine {
  const isDryRun = dryRun === true;
  if (root === '/' && !isDryRun && process.getuid?.() !== 0) {
    throw new Refusal('Run this as root (sudo), or with --dry-run to see what it would do.');
  }
  return new Machine({ root, isDryRun, say });
}

function contentOf(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch {
    throw new Refusal(`The file ${path} cannot be read.`);
  }
}
