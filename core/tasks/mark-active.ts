import { activeKey, type JobRef } from '../objects.ts';
import type { Queue } from '../queue/queue.ts';
import { RecordConflict, type Records } from '../records/records.ts';
import { reconcileTask } from './task.ts';

const MINUTE_MS = 60_000;

/**
 * From now on reconcile looks after the job, or after what is left of it. The task comes first and is that of the
 * minute after next: a run of reconcile that saw no marker, and so ends its chain, cannot be the one we count on.
 */
export async function markActive(
  { records, queue }: { records: Records; queue: Queue },
  job: JobRef,
  nowMs: number = Date.now(),
): Promise<void> {
  const dueMs = (Math.floor(nowMs / MINUTE_MS) + 2) * MINUTE_MS;
  await queue.enqueue(reconcileTask(dueMs), { delayMs: dueMs - nowMs });
  try {
    await records.create(activeKey(job), { marked_at: new Date(nowMs).toISOString() });
  } catch (error) {
    // Marked already: all the better.
    if (!(error instanceof RecordConflict)) throw error;
  }
}
