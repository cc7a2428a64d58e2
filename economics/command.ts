import { type Command, InvalidArgumentError, Option } from 'commander';
import { addServerOptions, connect, type ServerOptions } from '../cli/server-options.ts';
import { wholeNumber } from '../cli/whole-number.ts';
import type { EconomicsRequest } from './run-economics.ts';

type EconomicsOptions = ServerOptions & EconomicsRequest;

/** `zeroscribe economics`. What it counts with is loaded when it is asked for. */
export function addEconomics(program: Command): void {
  const command = program
    .command('economics')
    .summary('what a video costs on each backend, how long it waits, and what breaks even')
    .description(
      'Simulate each way to run jobs on a workload: one that you describe, or with --server the jobs that a service has done.',
    )
    .option('--videos-per-day <n>', 'how many come', amount(0), 10)
    .option('--minutes <n>', 'how long one is, on average', amount(0), 71)
    .addOption(
      new Option('--lengths <which>', 'all the same, or as recordings are')
        .choices(['fixed', 'varied', 'heavy'])
        .default('fixed'),
    )
    .addOption(
      new Option('--pattern <when>', 'when they come')
        .choices(['steady', 'office-hours', 'nightly', 'spike', 'even', 'bursts'])
        .default('steady'),
    )
    .option('--days <n>', 'how long it is looked at', wholeNumber(1, 366), 30)
    .option('--seed <n>', 'another draw of the same workload', wholeNumber(0, 2 ** 31), 1)
    .option('--price <usd>', 'what a video is sold for: shows the margin', amount(0))
    .option('--realtime-factor <n>', 'seconds of audio that a GPU does in one', amount(0))
    .option('--cold-start <seconds>', 'until an instance works', amount(-1))
    .option('--idle-tail <seconds>', 'how long an instance stays after its last job', amount(-1))
    .option('--max-gpus <n>', 'GPUs in use at a time', wholeNumber(1, 1_000))
    .option('--routing', 'try the tier auto on many workloads instead, against one backend for everything')
    .option('--json', 'print everything as JSON')
    .option('--html <file>', 'write a page with plots')
    .action(async (options: EconomicsOptions) => {
      const { runEconomics } = await import('./run-economics.ts');
      await runEconomics(options, options.server === undefined ? undefined : connect(options));
    });
  addServerOptions(command, 'take the completed jobs of this service, and their speed');
  command.addHelpText(
    'after',
    `
Examples:
  zeroscribe economics --videos-per-day 90 --minutes 71 --pattern office-hours --price 5
  zeroscribe economics --server https://transcribe.example.com --html costs.html
  zeroscribe economics --routing

Prices come from core/costs/prices.json; PRICES_FILE names a file with your own.`,
  );
}

function amount(above: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (value.trim() === '' || !Number.isFinite(number) || number <= above) {
      throw new InvalidArgumentError(`It must be a number above ${above}.`);
    }
    return number;
  };
}
