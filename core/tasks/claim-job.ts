import { isSettled, JobRecord } from '../job.ts';
import { type JobRef, jobKey } from '../objects.ts';
import { ServiceError } from '../problem.ts';
import { RecordConflict } from '../records/records.ts';
import { JobSession } from './job-session.ts';
import { isLeaseLive } from './lease.ts';
import { type JobTaskType, nextTaskType } from './next-task.ts';
import { settleUnclaimed } from './settle-job.ts';
import type { WorkerContext } from './worker-context.ts';

/** Tries of one task type, until the user asks for more. */
export const ATTEMPT_LIMIT = 5;

/**
 * Takes the lease and raises the epoch by compare-and-set. Of any number of workers that try at once, one gets it.
 * @returns nothing when there is nothing to do: the job is settled, deleted, past this task, or a live lease is with
 * another worker. The caller then drops its task; if that other worker dies, reconcile notices.
 */
export async function claimJob(
  context: WorkerContext,
  job: JobRef,
  task: { type: JobTaskType; part: number },
  interruption: AbortSignal,
): Promise<JobSession | undefined> {
  for (;;) {
    const stored = await context.records.read(jobKey(job));
    if (stored === undefined) return undefined;
    const record = JobRecord.parse(stored.value);
    if (isSettled(record.status)) return undefined;
    if (nextTaskType(record) !== task.type) return undefined;
    const isGone = record.lease !== null && context.isHolderGone?.(record.lease.holder) === true;
    if (isLeaseLive(record, stored.ageMs, context.timing.leaseMs) && !isGone) return undefined;

    const triesBefore = structuredClone(record.tries);
    try {
      if (record.cancel_requested) {
        await settleUnclaimed(context, record, stored.generation, 'canceled');
        return undefined;
      }
      const tries = record.tries[task.type];
      const isContinuation = task.part > 1 && task.part === tries.part + 1;
      if (isContinuation) {
        tries.part = task.part;
      } else {
        tries.attempt += 1;
        tries.part = 1;
      }
      if (tries.attempt > ATTEMPT_LIMIT) {
        const error = new ServiceError(
          'too-many-attempts',
          `The job was started ${ATTEMPT_LIMIT} times and each time the worker vanished. Ask for a retry, or try a smaller model.`,
        );
        await settleUnclaimed(context, JobRecord.parse(stored.value), stored.generation, error);
        return undefined;
      }
      record.epoch += 1;
      record.lease = { holder: context.holder, epoch: record.epoch };
      record.status = 'processing';
      record.stage = null;
      record.passed_over = [];
      record.started_at ??= new Date().toISOString();
      const generation = await context.records.replace(jobKey(job), record, stored.generation, {
        label: record.status,
      });
      return new JobSession(context, { record, generation, triesBefore }, interruption);
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
    }
  }
}
