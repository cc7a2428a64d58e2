import { isSettled, JobRecord } from '../core/job.ts';
import { ACTIVE_PREFIX, jobKey, parseActiveKey } from '../core/objects.ts';
import { RecordConflict, type StoredRecord } from '../core/records/records.ts';
import { removeTraces } from '../core/tasks/delete-job.ts';
import { isLeaseLive } from '../core/tasks/lease.ts';
import { UPLOAD_SILENCE_MS } from '../core/tasks/mark-active.ts';
import { nextTask, nextTaskType } from '../core/tasks/next-task.ts';
import type { Outcome } from '../core/tasks/outcome.ts';
import { removeLeftovers } from '../core/tasks/settle-job.ts';
import { reconcileTask, type TaskPayload, taskRef } from '../core/tasks/task.ts';
import type { WorkerContext } from '../core/tasks/worker-context.ts';

const MINUTE_MS = 60_000;
/** Between a write to the record and the task it names there is a moment; a crash in it is repaired after this. */
const ENQUEUE_GRACE_MS = 10_000;
const PAGE_SIZE = 100;

/**
 * Walks the markers of all jobs that are not finished with, and repairs what a crash has left: a task that is gone, a
 * worker that died, leftovers of a job that is settled, an upload that broke off. Comes back every minute while there
 * are markers, and not at all when there are none.
 */
export async function reconcile(
  context: WorkerContext,
  { dueMs = 0 }: TaskPayload,
  signal: AbortSignal,
): Promise<Outcome> {
  let count = 0;
  for await (const marker of markersOf(context)) {
    count += 1;
    if (signal.aborted) break;
    await repair(context, marker);
  }
  if (count > 0) {
    // Where our clock is behind, the next minute by it is the one whose name this very task has.
    const nextMs = Math.max(nextMinute(Date.now()), dueMs + MINUTE_MS);
    await context.queue.enqueue(reconcileTask(nextMs), { delayMs: nextMs - Date.now() });
  }
  return { kind: 'done' };
}

async function* markersOf({ records }: WorkerContext): AsyncGenerator<StoredRecord> {
  let after = '';
  for (;;) {
    const page = await records.list({ prefix: ACTIVE_PREFIX, limit: PAGE_SIZE, after });
    yield* page.records;
    after = page.records.at(-1)?.key ?? '';
    if (!page.hasMore) return;
  }
}

function nextMinute(nowMs: number): number {
  return (Math.floor(nowMs / MINUTE_MS) + 1) * MINUTE_MS;
}

async function repair(context: WorkerContext, marker: StoredRecord): Promise<void> {
  const job = parseActiveKey(marker.key);
  if (job === undefined) return;
  try {
    const stored = await context.records.read(jobKey(job));
    if (stored === undefined) {
      if (marker.ageMs > UPLOAD_SILENCE_MS) await removeTraces(context, job);
      return;
    }
    const record = JobRecord.parse(stored.value);
    if (isSettled(record.status)) {
      await removeLeftovers(context, record);
    } else {
      await revive(context, record, stored);
    }
  } catch (error) {
    // One broken job must not keep the others from being repaired.
    if (!(error instanceof RecordConflict))
      context.log.error({ err: error, job: job.id }, 'could not repair the job');
  }
}

/** Gives a job whose worker or task is gone a new task. */
async function revive(context: WorkerContext, record: JobRecord, stored: StoredRecord): Promise<void> {
  const isGone = record.lease !== null && context.isHolderGone?.(record.lease.holder) === true;
  if (isLeaseLive(record, stored.ageMs, context.timing.leaseMs) && !isGone) return;
  if (stored.ageMs < ENQUEUE_GRACE_MS && !isGone) return;
  if (record.task !== null && (await context.queue.has(record.task))) return;

  const named = nextTask(context.backends, record);
  if (record.lease === null && record.task?.name === named.name) {
    // Lost between the record and the queue, most likely: then its name is free.
    if ((await context.queue.enqueue(named)) === 'created') return;
    record.tries[nextTaskType(record)].attempt += 1;
  }
  const task = nextTask(context.backends, record);
  record.task = taskRef(task);
  record.lease = null;
  await context.records.replace(stored.key, record, stored.generation, { label: record.status });
  await context.queue.enqueue(task);
  context.log.warn({ job: record.id, task: task.name }, 'the job had lost its task and has a new one');
}

/** For the sole owner of a store, at its start: an upload that has no job by then has no sender either. */
export async function sweepUnfinishedUploads(context: WorkerContext): Promise<void> {
  for await (const marker of markersOf(context)) {
    const job = parseActiveKey(marker.key);
    if (job !== undefined && (await context.records.read(jobKey(job))) === undefined)
      await removeTraces(context, job);
  }
}
