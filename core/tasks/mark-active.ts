import type { Logger } from '../log.ts';
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

/** How often an upload that is under way shows that it lives. */
const RENEWAL_MS = MINUTE_MS;
/** A marker without a job that was not renewed for so long is of an upload that has no receiver any more. */
export const UPLOAD_SILENCE_MS = 10 * RENEWAL_MS;

/** Renews the marker, once it is there, until disposed of: an upload may take hours. */
export function keepActive(records: Records, job: JobRef, log: Logger): Disposable {
  const key = activeKey(job);
  const renew = async () => {
    const stored = await records.read(key);
    if (stored !== undefined) await records.replace(key, stored.value, stored.generation);
  };
  const timer = setInterval(() => {
    renew().catch((error: unknown) => log.warn({ err: error, job: job.id }, 'a marker was not renewed'));
  }, RENEWAL_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
