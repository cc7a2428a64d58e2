import { describeWritten } from './describe-written.ts';
import { JobFailed } from './job-failed.ts';
import { printable } from './printable.ts';
import type { ProgressDisplay } from './progress-display.ts';
import { type JobSurroundings, runJob } from './run-job.ts';
import { ApiProblem, isPassing, ServiceUnreachable } from './service-errors.ts';
import type { Outcome } from './summary.ts';
import type { Plan } from './transcript-files.ts';

export interface ManySettings {
  /** How many at once. */
  jobs: number;
  display: ProgressDisplay;
  signal: AbortSignal;
}

type Surroundings = Omit<JobSurroundings, 'progress' | 'signal'>;

/**
 * Transcribes them, some at once. What fails by itself stops no other; what would fail for each, such as a service that
 * is gone, stops all.
 * @returns what became of each, and what stopped them before the end
 */
export async function transcribeMany(
  plans: readonly Plan[],
  surroundings: Surroundings,
  { jobs, display, signal }: ManySettings,
): Promise<{ outcomes: Outcome[]; stoppedBy?: unknown }> {
  const outcomes = plans.map(({ input }): Outcome => ({ name: input.name, status: 'left' }));
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const queue = plans.entries();

  const runNext = async (): Promise<void> => {
    for (const [index, plan] of queue) {
      if (either.aborted) return;
      try {
        outcomes[index] = await runOne(plan, { ...surroundings, signal: either }, display);
      } catch (error) {
        stop.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, plans.length) }, runNext));
  return either.aborted ? { outcomes, stoppedBy: either.reason } : { outcomes };
}

/** @throws what concerns not only this recording */
async function runOne(
  plan: Plan,
  surroundings: Omit<JobSurroundings, 'progress'>,
  display: ProgressDisplay,
): Promise<Outcome> {
  const { name } = plan.input;
  const startedAtMs = performance.now();
  const took = () => (performance.now() - startedAtMs) / 1000;
  const progress = display.begin(name);
  try {
    const done = await runJob(plan, { ...surroundings, progress });
    for (const { message } of done.warnings) progress.warn(`Warning: ${printable(message)}`);
    progress.note(describeWritten(plan.files, done));
    return {
      name,
      status: 'done',
      durationSeconds: done.duration_seconds,
      tookSeconds: took(),
      ...(done.warnings.length > 0 && { remark: done.warnings.map(({ code }) => code).join(', ') }),
    };
  } catch (error) {
    if (surroundings.signal.aborted) throw surroundings.signal.reason;
    if (concernsAll(error)) throw error;
    const [title, detail] = describe(error);
    progress.warn(`error: ${title}${detail === undefined ? '' : `. ${printable(detail)}`}`);
    return { name, status: 'failed', tookSeconds: took(), remark: title };
  } finally {
    progress.end();
  }
}

/** No service, no right to use it, or options that it refuses. */
function concernsAll(error: unknown): boolean {
  if (error instanceof ServiceUnreachable || isPassing(error)) return true;
  if (!(error instanceof ApiProblem)) return false;
  const { status, field } = error.problem;
  if (status === 401 || status === 403) return true;
  return status === 422 && typeof field === 'string' && !/^(source|file)\b/.test(field);
}

function describe(error: unknown): [title: string, detail?: string] {
  if (error instanceof JobFailed || error instanceof ApiProblem) {
    return [error.problem.title, error.problem.detail];
  }
  return [error instanceof Error ? error.message : String(error)];
}
