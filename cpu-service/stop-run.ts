import { z } from 'zod';
import { isSettled, JobRecord, Run } from '../core/job.ts';
import { activeKey, type JobRef, jobKey } from '../core/objects.ts';
import { ServiceError } from '../core/problem.ts';
import { RecordConflict } from '../core/records/records.ts';
import { GoogleApiError } from '../core/runs/google-api.ts';
import type { Outcome } from '../core/tasks/outcome.ts';
import { removeLeftovers } from '../core/tasks/settle-job.ts';
import type { TaskPayload } from '../core/tasks/task.ts';
import type { WorkerContext } from '../core/tasks/worker-context.ts';

/** A start that was intended so long ago has been made or never will be. One call takes a third of it at most. */
export const START_PATIENCE_MS = 60_000;

/** Stops the run of a job that was canceled or deleted. */
export async function stopRun(context: WorkerContext, { job }: TaskPayload): Promise<Outcome> {
  if (job === undefined) throw new TypeError('a stop-run task needs a job');
  if (await stopUnwantedRun(context, job)) return { kind: 'done' };
  return { kind: 'retry', error: new ServiceError('interrupted', 'A run of it may be about to start.') };
}

/**
 * Stops the run of a job that is settled or deleted, and then removes what kept it from being finished with. A job
 * that goes on (its user has asked for a retry) keeps its run.
 * @returns false when the run may be about to start: then it is to be stopped later
 */
export async function stopUnwantedRun(context: WorkerContext, job: JobRef): Promise<boolean> {
  for (;;) {
    const stored = await context.records.read(jobKey(job));
    if (stored === undefined) return stopRunOfDeleted(context, job);
    const record = JobRecord.parse(stored.value);
    if (!isSettled(record.status) || record.run === null) return true;
    if (!(await stop(context, record.run, stored.ageMs))) return false;
    record.run = null;
    try {
      await context.records.replace(stored.key, record, stored.generation, { label: record.status });
    } catch (error) {
      if (error instanceof RecordConflict) continue;
      throw error;
    }
    await removeLeftovers(context, record);
    return true;
  }
}

const Marker = z.looseObject({ run: Run.optional() });

/** Its marker says what had been started for it. */
async function stopRunOfDeleted(context: WorkerContext, job: JobRef): Promise<boolean> {
  const marker = await context.records.read(activeKey(job));
  if (marker === undefined) return true;
  const { run, ...rest } = Marker.parse(marker.value);
  if (run === undefined) return true;
  if (!(await stop(context, run, marker.ageMs))) return false;
  try {
    await context.records.replace(marker.key, rest, marker.generation);
  } catch (error) {
    // Removed, or to be removed by somebody who came to the same end.
    if (!(error instanceof RecordConflict)) throw error;
  }
  return true;
}

/** `ageMs`: since it was last written down. @returns false when it may be about to start */
export async function stop(context: WorkerContext, run: Run, ageMs: number): Promise<boolean> {
  const runs = context.runs?.get(run.backend);
  // Its backend is not ours any more. When it starts, it finds nothing to do.
  if (runs === undefined) return true;
  try {
    if (run.execution !== null) {
      await runs.cancel(run.execution);
      return true;
    }
    const found = await runs.find(run.id);
    for (const { name, state } of found) if (state !== 'ended') await runs.cancel(name);
    return found.length > 0 || ageMs >= START_PATIENCE_MS;
  } catch (error) {
    if (!(error instanceof GoogleApiError) || error.isPassing) throw error;
    context.log.error({ err: error, run: run.id }, 'the run could not be stopped');
    return true;
  }
}
