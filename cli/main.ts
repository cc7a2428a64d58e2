import { Command } from 'commander';
import { addDeploy } from '../deploy/command.ts';
import { addEconomics } from '../economics/command.ts';
import packageJson from '../package.json' with { type: 'json' };
import { addJobs } from './jobs.ts';
import { reportError } from './report-error.ts';
import { addServe } from './serve.ts';
import { addTranscribe } from './transcribe.ts';

const program = new Command('zeroscribe')
  .description('Transcribe recordings with WhisperX: words with times, and who said them.')
  .version(packageJson.version)
  // Inherited by the commands below. Errors come to reportError, which chooses the exit code.
  .exitOverride()
  .showHelpAfterError('(--help shows what can be asked for)');

addTranscribe(program);
addServe(program);
addJobs(program);
addDeploy(program);
addEconomics(program);

try {
  await program.parseAsync();
  process.exit(0);
} catch (error) {
  process.exit(reportError(error));
}
