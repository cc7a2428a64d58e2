import { isSettled, JobRecord } from '../job.ts';
import { jobKey } from '../objects.ts';
import type { ServiceError } from '../problem.ts';
import { type Backoff, backoffMs } from '../queue/backoff.ts';
import { RecordConflict } from '../records/records.ts';
import { nextTask } from './next-task.ts';
import { type TaskPayload, taskRef } from './task.ts';
import type { WorkerContext } from './worker-context.ts';

/** As a queue would wait before it delivers a task again. */
const BACKOFF: Backoff = { minMs: 10_000, maxMs: 300_000, maxDoublings: 5 };

/**
 * Does by itself what a queue does with a task that was given back because of `error`: there will be another try, at
 * once after an interruption and else after a while. For triggers whose task is on no queue.
 * @throws when it could not be written down, or put on the queue
 */
export async function tryAgain(
  context: WorkerContext,
  payload: TaskPayload,
  { slug }: ServiceError,
): Promise<void> {
  if (payload.job === undefined) throw new TypeError('the task names no job');
  for (;;) {
    const stored = await context.records.read(jobKey(payload.job));
    if (stored === undefined) return;
    const record = JobRecord.parse(stored.value);
    if (isSettled(record.status)) return;
    // Somebody else's by now.
    if (payload.run !== undefined && record.run !== null && record.run.id !== payload.run) return;
    if (record.lease !== null) {
      if (record.lease.holder === context.holder) throw new Error('the job was not given back');
      return;
    }
    const { attempt, part } = record.tries.transcribe;
    const isContinuation = payload.part !== undefined && payload.part > 1 && payload.part === part + 1;
    record.handovers += 1;
    const task = nextTask(context.backends, record, { isContinuation });
    record.task = taskRef(task);
    record.run = null;
    try {
      await context.records.replace(stored.key, record, stored.generation, { label: record.status });
    } catch (error) {
      if (error instanceof RecordConflict) continue;
      throw error;
    }
    const delayMs = slug === 'interrupted' ? 0 : backoffMs(Math.max(1, attempt), BACKOFF);
    await context.queue.enqueue(task, { delayMs });
    return;
  }
}
