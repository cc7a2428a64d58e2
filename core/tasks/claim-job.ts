import { INGEST_BACKEND } from '../costs/usage.ts';
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

/** A continuation counts as no attempt. */
export function triesOnceClaimed({ attempt, part }: Tries, partOfTask: number): Tries {
  const isContinuation = partOfTask > 1 && partOfTask === part + 1;
  return isContinuation ? { attempt, part: partOfTask } : { attempt: attempt + 1, part: 1 };
}

type Tries = JobRecord['tries'][JobTaskType];

/**
 * Takes the lease and raises the epoch by compare-and-set. Of any number of workers that try at once, one gets it.
 * @returns nothing when there is nothing to do: the job is settled, deleted, past this task, given to another
 * run, or a live lease is with another worker. The caller then drops its task; if that worker dies, reconcile notices.
 */
export async function claimJob(
  context: WorkerContext,
  job: JobRef,
  task: { type: JobTaskType; part: number; run?: string | undefined },
  interruption: AbortSignal,
): Promise<JobSession | undefined> {
  for (;;) {
    const stored = await context.records.read(jobKey(job));
    if (stored === undefined) return undefined;
    const record = JobRecord.parse(stored.value);
    if (isSettled(record.status)) return undefined;
    if (nextTaskType(record) !== task.type) return undefined;
    // It was given up, and whoever has the job now is known under its own name.
    if (task.run !== undefined && record.run?.id !== task.run) return undefined;
    const isGone = record.lease !== null && context.isHolderGone?.(record.lease.holder) === true;
    if (isLeaseLive(record, stored.ageMs, context.timing.leaseMs) && !isGone) return undefined;

    const triesBefore = structuredClone(record.tries);
    try {
      if (record.cancel_requested) {
        await settleUnclaimed(context, record, stored.generation, 'canceled');
        return undefined;
      }
      const tries = triesOnceClaimed(record.tries[task.type], task.part);
      record.tries[task.type] = tries;
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
      const usedAt = whereUsed(context, record, task.type);
      return new JobSession(context, { record, generation, triesBefore, usedAt }, interruption);
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
    }
  }
}

/** By whom the time of this session is billed. */
function whereUsed(
  { instance, hasGpu = false, backends }: WorkerContext,
  { backend }: JobRecord,
  type: JobTaskType,
) {
  if (type === 'ingest') return { backend: INGEST_BACKEND, hasGpu: false, instance: undefined };
  // A task may still come to a backend that its job was taken from.
  if (instance !== undefined) return { backend: instance.backend, hasGpu, instance };
  const isElsewhere = backends.some(({ name, kind }) => name === backend && kind === 'voxtral');
  return { backend, hasGpu: hasGpu && !isElsewhere, instance };
}
