import { once } from 'node:events';
import type { Command } from 'commander';
import { type ServeOptions, startService } from './embedded-service.ts';
import { interruption } from './interruption.ts';
import { wholeNumber } from './whole-number.ts';

export function addServe(program: Command): void {
  program
    .command('serve')
    .summary('run the service: API, queue and transcriber in one process')
    .description(
      'Run the whole service on this machine until Ctrl-C. Work that is interrupted goes on at the next start.\n' +
        'Everything else is set by environment variables: see docs/configuration.md.',
    )
    .option(
      '-p, --port <n>',
      'port to listen on; 0 takes a free one (default: PORT, else 8080)',
      wholeNumber(0, 65535),
    )
    .option('--host <address>', 'address to listen on (default: HOST, else 127.0.0.1, this machine only)')
    .option(
      '-d, --data-dir <folder>',
      'where recordings and transcripts are kept (default: DATA_DIR, else ./data)',
    )
    .action(serve);
}

async function serve(options: ServeOptions): Promise<void> {
  const interrupted = interruption();
  const service = await startService(options);
  process.stderr.write(
    `Zeroscribe listens on ${service.url}. Try it from another terminal:\n\n` +
      `  curl -F file=@recording.mp3 ${service.url}/v1/transcriptions\n\nCtrl-C stops it.\n`,
  );
  const end = AbortSignal.any([interrupted, ...(service.failure ? [service.failure] : [])]);
  if (!end.aborted) await once(end, 'abort');
  await service.stop();
  // Stopping was the wish: a clean stop is a success.
  if (!interrupted.aborted) throw end.reason;
}
