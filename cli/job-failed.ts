import type { Problem } from '../core/problem.ts';

/** The transcription was accepted and came to nothing. */
export class JobFailed extends Error {
  override readonly name = 'JobFailed';
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(`${problem.title}: ${problem.detail}`);
    this.problem = problem;
  }
}
