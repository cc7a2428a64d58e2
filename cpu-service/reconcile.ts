import { claimTimeoutMs } from '../core/backends.ts';
import { isSettled, JobRecord, type Run } from '../core/job.ts';
import { ACTIVE_PREFIX, jobKey, parseActiveKey } from '../core/objects.ts';
import { ServiceError } from '../core/problem.ts';
import { RecordConflict, type StoredRecord } from '../core/records/records.ts';
import { ATTEMPT_LIMIT } from '../core/tasks/claim-job.ts';
import { removeTraces } from '../core/tasks/delete-job.ts';
import { isLeaseLive } from '../core/tasks/lease.ts';
import { UPLOAD_SILENCE_MS } from '../core/tasks/mark-active.ts';
import { moveOn, type Reason } from '../core/tasks/move-on.ts';
import { nextTask, nextTaskType } from '../core/tasks/next-task.ts';
import type { Outcome } from '../core/tasks/outcome.ts';
import { removeLeftovers, settleUnclaimed } from '../core/tasks/settle-job.ts';
import { reconcileTask, type TaskPayload, taskRef } from '../core/tasks/task.ts';
import type { WorkerContext } from '../core/tasks/worker-context.ts';
import { START_PATIENCE_MS, stop, stopUnwantedRun } from './stop-run.ts';

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
      if (!(await stopUnwantedRun(context, job))) return;
      if (marker.ageMs > UPLOAD_SILENCE_MS) await removeTraces(context, job);
      return;
    }
    const record = JobRecord.parse(stored.value);
    if (isSettled(record.status)) {
      if (record.run === null) await removeLeftovers(context, record);
      else await stopUnwantedRun(context, job);
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
  if (record.task !== null && (await context.queue.has(record.task))) {
    await expectClaim(context, record, stored);
    return;
  }
  if (record.run !== null && (await isRunAlive(context, record, stored, record.run))) return;

  if (record.run !== null) {
    if (await giveUpRun(context, record, stored)) return;
    record.run = null;
  } else {
    const named = nextTask(context.backends, record);
    if (record.lease === null && record.task?.name === named.name) {
      // Lost between the record and the queue, most likely: then its name is free.
      if ((await context.queue.enqueue(named)) === 'created') return;
      record.tries[nextTaskType(record)].attempt += 1;
    }
  }
  const task = nextTask(context.backends, record);
  record.task = taskRef(task);
  record.lease = null;
  await context.records.replace(stored.key, record, stored.generation, { label: record.status });
  await context.queue.enqueue(task);
  context.log.warn({ job: record.id, task: task.name }, 'the job had lost its task and has a new one');
}

/** A task that a backend takes by HTTP and has not taken in time goes to the next one that fits, if there is one. */
async function expectClaim(
  context: WorkerContext,
  record: JobRecord,
  { ageMs, generation }: StoredRecord,
): Promise<void> {
  const backend = context.backends.find(({ name }) => name === record.backend);
  const { task } = record;
  if (backend === undefined || task?.queue !== backend.name || record.lease !== null) return;
  if (ageMs < claimTimeoutMs(backend)) return;
  // First the record: if the old task is taken all the same, one of the two finds the job claimed.
  const nextPart = nextTask(context.backends, record, { isContinuation: true });
  const part = task.name === nextPart.name ? record.tries.transcribe.part + 1 : 1;
  if (await moveOn(context, record, generation, NOT_BEGUN, { part })) await context.queue.delete(task);
}

const NOT_BEGUN: Reason = { because: 'did not begin with it in time', is_passing: true };

/**
 * A run that is pending or at work is a living task, unless it should have claimed the job by now and another backend
 * could, or has claimed it and then lost its lease: it hangs.
 */
async function isRunAlive(
  context: WorkerContext,
  record: JobRecord,
  { ageMs, generation }: StoredRecord,
  run: Run,
): Promise<boolean> {
  const runs = context.runs?.get(run.backend);
  if (runs === undefined) return false;
  const found = run.execution === null ? (await runs.find(run.id))[0] : undefined;
  const execution = run.execution ?? found?.name;
  const state = found?.state ?? (execution === undefined ? undefined : await runs.state(execution));
  // Whoever intended it may be about to start it.
  if (state === undefined) return ageMs < START_PATIENCE_MS;
  if (state === 'ended') return false;
  if (record.lease !== null) {
    await stop(context, run, ageMs);
    return false;
  }
  if (found !== undefined) {
    // Whoever started it died before it could write this down.
    const named: JobRecord = { ...record, run: { ...run, state: 'started', execution: found.name } };
    await context.records.replace(jobKey(record), named, generation, { label: named.status });
    return true;
  }
  const backend = context.backends.find(({ name }) => name === run.backend);
  if (backend === undefined || ageMs < claimTimeoutMs(backend)) return true;
  if (await moveOn(context, record, generation, NOT_BEGUN, { part: run.part }))
    await stop(context, run, ageMs);
  return true;
}

/**
 * The run has ended, and its job has not. One that never began may do so again: the next backend is asked, and without
 * one its ends are counted, since nobody claims who could count.
 * @returns true when the job is somebody else's now, or over
 */
async function giveUpRun(
  context: WorkerContext,
  record: JobRecord,
  { generation }: StoredRecord,
): Promise<boolean> {
  if (record.lease !== null) return false;
  const reason = { because: 'ended before it began with it', is_passing: true };
  if (await moveOn(context, record, generation, reason, { part: record.run?.part ?? 1 })) return true;
  const { transcribe } = record.tries;
  transcribe.attempt += 1;
  if (transcribe.attempt < ATTEMPT_LIMIT) return false;
  const error = new ServiceError(
    'too-many-attempts',
    `The backend ${record.backend} was started ${ATTEMPT_LIMIT} times and each time it ended before it began with the job. Its operator finds the reason in its log. Then retry the transcription.`,
  );
  await settleUnclaimed(context, { ...record, run: null }, generation, error);
  return true;
}

/** For the sole owner of a store, at its start: an upload that has no job by then has no sender either. */
export async function sweepUnfinishedUploads(context: WorkerContext): Promise<void> {
  for await (const marker of markersOf(context)) {
    const job = parseActiveKey(marker.key);
    if (job !== undefined && (await context.records.read(jobKey(job))) === undefined)
      await removeTraces(context, job);
  }
}
