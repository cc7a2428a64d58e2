import { CommanderError } from 'commander';
import { type Problem, ServiceError, toProblem } from '../core/problem.ts';
import { Interrupted } from './interruption.ts';
import { JobFailed } from './job-failed.ts';
import { printable } from './printable.ts';
import { ApiProblem } from './service-errors.ts';
import { UsageError } from './usage-error.ts';

/** Tells the user what went wrong, on stderr. @returns the exit code: 1 it failed, 2 it was asked for wrongly */
export function reportError(error: unknown): number {
  // Commander has already said it, except that it calls the wish for help an error too.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof Interrupted) {
    say(error.message);
    return error.exitCode;
  }
  if (error instanceof UsageError) {
    say(`error: ${error.message}`);
    return 2;
  }
  if (error instanceof JobFailed) {
    sayProblem(error.problem);
    return 1;
  }
  if (error instanceof ApiProblem || error instanceof ServiceError) {
    const problem = error instanceof ApiProblem ? error.problem : toProblem(error);
    sayProblem(problem);
    if (problem.status === 401) say('  Give the key with --api-key, or in the variable ZEROSCRIBE_API_KEY.');
    // An option was refused: the command line was wrong, not the recording.
    return problem.status === 422 && 'field' in problem ? 2 : 1;
  }
  say(`error: ${error instanceof Error ? error.message : String(error)}`);
  return 1;
}

function sayProblem({ title, detail }: Problem): void {
  say(`error: ${title}\n  ${printable(detail)}`);
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
