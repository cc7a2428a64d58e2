import { type Backend, claimTimeoutMs } from '../core/backends.ts';
import { isSettled, JobRecord, type Run } from '../core/job.ts';
import { ACTIVE_PREFIX, jobKey, parseActiveKey } from '../core/objects.ts';
import { ServiceError } from '../core/problem.ts';
import { RecordConflict, type StoredRecord } from '../core/records/records.ts';
import { requestedMs } from '../core/routing/choose-backend.ts';
import { CAUTION } from '../core/routing/estimate.ts';
import { GoogleApiError } from '../core/runs/google-api.ts';
import type { Execution, Runs } from '../core/runs/runs.ts';
import { ATTEMPT_LIMIT } from '../core/tasks/claim-job.ts';
import { removeTraces } from '../core/tasks/delete-job.ts';
import { isLeaseLive } from '../core/tasks/lease.ts';
import { UPLOAD_SILENCE_MS } from '../core/tasks/mark-active.ts';
import { moveOn, passOn, type Reason } from '../core/tasks/move-on.ts';
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
  if (nextTaskType(record) === 'transcribe' && backendOf(context, record) === undefined) {
    await leaveBackend(context, record, stored);
    return;
  }
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

function backendOf({ backends }: WorkerContext, record: JobRecord): Backend | undefined {
  return backends.find(({ name }) => name === record.backend);
}

/** Its backend was taken out of BACKENDS: no queue leads there any more. */
async function leaveBackend(
  context: WorkerContext,
  record: JobRecord,
  { generation }: StoredRecord,
): Promise<void> {
  const reason = { because: 'is no longer in BACKENDS', is_passing: false };
  if (await moveOn(context, record, generation, reason)) {
    if (record.task !== null) await context.queue.delete(record.task);
    return;
  }
  const error = new ServiceError(
    'backend-refused',
    `The backend ${record.backend} ${reason.because}, and no other takes the job. Its operator puts it back, or adds one that does. Then retry the transcription.`,
  );
  await settleUnclaimed(context, { ...record, run: null }, generation, error);
}

/** A task that a backend takes by HTTP and has not taken in time goes to another one that fits, if there is one. */
async function expectClaim(
  context: WorkerContext,
  record: JobRecord,
  { ageMs, generation }: StoredRecord,
): Promise<void> {
  const backend = backendOf(context, record);
  const { task } = record;
  if (backend === undefined || task?.queue !== backend.name || record.lease !== null) return;
  if (ageMs < claimTimeoutMs(backend) + expectedWaitMs(record) && !isDeadlineNear(context, record, ageMs))
    return;
  // First the record: if the old task is taken all the same, one of the two finds the job claimed.
  const nextPart = nextTask(context.backends, record, { isContinuation: true });
  const part = task.name === nextPart.name ? record.tries.transcribe.part + 1 : 1;
  const next = await passOn(context, record, generation, NOT_BEGUN, { part });
  if (next === 'handed-over') await context.queue.delete(task);
}

/** Of a job that was sent into a line because it costs less there. */
function expectedWaitMs({ options, routing }: JobRecord): number {
  const estimate = routing.estimates?.find(({ backend }) => backend === routing.chosen);
  return options.tier === 'auto' && estimate !== undefined ? estimate.begins_in_seconds * 1_000 : 0;
}

/**
 * Whether a job that begins later than was expected should leave now for another backend, which can just still meet its
 * deadline: in a minute, when it is looked at again, none could.
 */
function isDeadlineNear({ now = Date.now }: WorkerContext, record: JobRecord, ageMs: number): boolean {
  const { options, routing, passed_over } = record;
  const { chosen, estimates = [] } = routing;
  const own = estimates.find(({ backend }) => backend === chosen);
  if (options.tier !== 'auto' || options.deadline_seconds === undefined || own === undefined) return false;
  if (ageMs < own.begins_in_seconds * 1_000 * CAUTION) return false;
  const others = estimates.filter(
    ({ backend }) => backend !== chosen && !passed_over.some((one) => one.backend === backend),
  );
  const fastestMs = Math.min(...others.map(({ done_in_seconds }) => done_in_seconds * 1_000));
  const leftMs = requestedMs(record) + options.deadline_seconds * 1_000 - now();
  return fastestMs <= leftMs && leftMs < fastestMs * CAUTION + MINUTE_MS;
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
  const backend = context.backends.find(({ name }) => name === run.backend);
  const patienceMs = backend === undefined ? 0 : claimTimeoutMs(backend);
  let execution: Execution | undefined;
  try {
    execution = await executionOf(runs, run);
  } catch (error) {
    // We may not ask, say. It has had the time that it may take.
    const isHopeless = error instanceof GoogleApiError && !error.isPassing;
    if (isHopeless && ageMs >= (run.execution === null ? START_PATIENCE_MS : patienceMs)) return false;
    throw error;
  }
  // Whoever intended it may be about to start it.
  if (execution === undefined) return ageMs < START_PATIENCE_MS;
  if (execution.state === 'ended') return false;
  if (record.lease !== null) {
    await stop(context, run, ageMs);
    return false;
  }
  if (run.execution === null) {
    // Whoever started it died before it could write this down.
    const named: JobRecord = { ...record, run: { ...run, state: 'started', execution: execution.name } };
    await context.records.replace(jobKey(record), named, generation, { label: named.status });
    return true;
  }
  if (ageMs < patienceMs && !isDeadlineNear(context, record, ageMs)) return true;
  // One that is pending costs nothing, however often it is started.
  const late = execution.state === 'running' ? withOneMoreAttempt(record) : record;
  const next = await passOn(context, late, generation, NOT_BEGUN, { part: run.part });
  if (next === 'handed-over') await stop(context, run, ageMs);
  return true;
}

async function executionOf(runs: Runs, { id, execution: name }: Run): Promise<Execution | undefined> {
  if (name === null) return (await runs.find(id))[0];
  return { name, state: await runs.state(name) };
}

/** Nobody claims the job who could count it. */
function withOneMoreAttempt(record: JobRecord): JobRecord {
  const counted = structuredClone(record);
  counted.tries.transcribe.attempt += 1;
  return counted;
}

/**
 * The run has ended, and its job has not. One that never began may do so again, on every backend: its ends are
 * counted, and the next backend is asked.
 * @returns true when the job is somebody else's now, or over
 */
async function giveUpRun(
  context: WorkerContext,
  record: JobRecord,
  { generation }: StoredRecord,
): Promise<boolean> {
  if (record.lease !== null) return false;
  record.tries.transcribe.attempt += 1;
  if (record.tries.transcribe.attempt < ATTEMPT_LIMIT) {
    const reason = { because: 'ended before it began with it', is_passing: true };
    const part = record.run?.part ?? 1;
    return (await passOn(context, record, generation, reason, { part })) === 'handed-over';
  }
  const error = new ServiceError(
    'too-many-attempts',
    `The job was started ${ATTEMPT_LIMIT} times. The last time the backend ${record.backend} ended before it began with the job. Its operator finds the reason in its log. Then retry the transcription.`,
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
