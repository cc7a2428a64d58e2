import { randomBytes } from 'node:crypto';
import { isJobBackend } from '../core/backends.ts';
import { isSettled, JobRecord, type Run } from '../core/job.ts';
import { type JobRef, jobKey } from '../core/objects.ts';
import { ServiceError } from '../core/problem.ts';
import { RecordConflict, type StoredRecord } from '../core/records/records.ts';
import { explainStart } from '../core/runs/google-api.ts';
import { type Refusal, RunRefused, type Runs } from '../core/runs/runs.ts';
import { ATTEMPT_LIMIT, triesOnceClaimed } from '../core/tasks/claim-job.ts';
import { isLeaseLive } from '../core/tasks/lease.ts';
import { isWorthTheWait, passOn, type Reason } from '../core/tasks/move-on.ts';
import { nextTaskType } from '../core/tasks/next-task.ts';
import type { Outcome } from '../core/tasks/outcome.ts';
import { settleUnclaimed } from '../core/tasks/settle-job.ts';
import type { TaskPayload } from '../core/tasks/task.ts';
import type { WorkerContext } from '../core/tasks/worker-context.ts';
import { releaseStart, reserveStart } from './reserve-start.ts';
import { START_PATIENCE_MS, stopUnwantedRun } from './stop-run.ts';

const DONE: Outcome = { kind: 'done' };

/**
 * Starts an execution of the job's backend, which then claims the job. Written down is first what is intended, then
 * the name of what was started: whatever dies in between, the next try looks for it before it starts another.
 */
export async function startRun(context: WorkerContext, payload: TaskPayload): Promise<Outcome> {
  const { job, part = 1 } = payload;
  if (job === undefined) throw new TypeError('a start-run task needs a job');
  for (;;) {
    const stored = await context.records.read(jobKey(job));
    const record = stored === undefined ? undefined : JobRecord.parse(stored.value);
    if (stored === undefined || record === undefined || isSettled(record.status)) {
      return (await stopUnwantedRun(context, job)) ? DONE : later('A run of it may be about to start.');
    }
    const isClaimed = isLeaseLive(record, stored.ageMs, context.timing.leaseMs);
    if (nextTaskType(record) !== 'transcribe' || isClaimed) return DONE;
    try {
      if (record.cancel_requested) {
        await settleUnclaimed(context, record, stored.generation, 'canceled');
        return DONE;
      }
      return await start(context, record, stored, part);
    } catch (error) {
      // Canceled, claimed, or started by another call of this task meanwhile.
      if (!(error instanceof RecordConflict)) throw error;
    }
  }
}

async function start(
  context: WorkerContext,
  record: JobRecord,
  stored: StoredRecord,
  part: number,
): Promise<Outcome> {
  const backend = context.backends.find(({ name }) => name === record.backend);
  // Another task has the job by now, which waits for a backend that is called.
  if (backend !== undefined && !isJobBackend(backend)) return DONE;
  const runs = context.runs?.get(record.backend);
  if (backend === undefined || runs === undefined) {
    const error = new RunRefused('missing', 'it is not in BACKENDS');
    return refused(context, record, stored.generation, part, error);
  }
  if (record.run === null && triesOnceClaimed(record.tries.transcribe, part).attempt > ATTEMPT_LIMIT) {
    // Its run could not claim the job.
    const error = new ServiceError(
      'too-many-attempts',
      `The job was started ${ATTEMPT_LIMIT} times and never got far. The operator finds the reason in the logs of the backends. Then retry the transcription.`,
    );
    await settleUnclaimed(context, record, stored.generation, error);
    return { kind: 'failed', error };
  }

  const run: Run = {
    backend: backend.name,
    // The same when an earlier try came to nothing: should it come after all, it is found by it too.
    id: record.run?.id ?? `${record.id}-${randomBytes(4).toString('hex')}`,
    part,
    state: 'starting',
    execution: null,
    started_at: new Date().toISOString(),
  };
  const { max_running: limit } = backend;
  try {
    if (record.run !== null) {
      const outcome = await lookForRun(context, record, stored, runs);
      if (outcome !== undefined) return outcome;
    }
    if (
      limit !== undefined &&
      !(await reserveStart(context.records, backend.name, run.id, { job: record.id, runs, limit }))
    ) {
      const because = `has as many jobs as it may have at a time, which is ${limit}`;
      if (await isWorthTheWait(context, record)) {
        return await stay(context, record, stored.generation, because);
      }
      const problem = `The backend ${backend.name} ${because}, and no other takes the job. Retry the transcription later.`;
      return await passOver(context, record, stored.generation, part, { because, is_passing: true }, problem);
    }
  } catch (error) {
    // Whoever may not even look for them, or count them, need not try.
    const refusal = explainStart(error);
    if (!(refusal instanceof RunRefused) || refusal.isPassing) throw error;
    return refused(context, record, stored.generation, part, refusal);
  }
  const intent = { ...record, run };
  const label = record.status;
  const generation = await context.records.replace(stored.key, intent, stored.generation, { label });
  const log = context.log.child({ job: record.id, backend: backend.name, run: run.id });
  const job: JobRef = { owner: record.owner, id: record.id };
  let execution: string;
  try {
    execution = await runs.start(run.id, { type: 'transcribe', job, part });
  } catch (error) {
    if (error instanceof RunRefused) {
      await releaseStart(context.records, backend.name, run.id);
      return refused(context, intent, generation, part, error);
    }
    log.warn({ err: error }, 'nobody knows whether the run was started; it is looked for');
    const unclear: JobRecord = { ...intent, run: { ...run, state: 'unclear' } };
    await context.records.replace(stored.key, unclear, generation, { label });
    return later('It is not known yet whether its run was started.');
  }
  await keepName(context, job, runs, run.id, execution);
  log.info({ execution }, 'started a run');
  return DONE;
}

/** There is an intent: of an earlier try that died, or of one that is at it. @returns nothing when it came to nothing */
async function lookForRun(
  context: WorkerContext,
  record: JobRecord,
  { ageMs }: StoredRecord,
  runs: Runs,
): Promise<Outcome | undefined> {
  const run = record.run as Run;
  if (run.execution !== null) return DONE;
  if (run.state === 'starting' && ageMs < START_PATIENCE_MS)
    return later('Another call is starting its run.');
  const [found] = await runs.find(run.id);
  if (found === undefined) return undefined;
  await keepName(context, record, runs, run.id, found.name);
  return DONE;
}

/** The job may have been claimed, canceled or deleted since. */
async function keepName(
  context: WorkerContext,
  job: JobRef,
  runs: Runs,
  runId: string,
  execution: string,
): Promise<void> {
  for (;;) {
    const stored = await context.records.read(jobKey(job));
    if (stored === undefined) return runs.cancel(execution);
    const record = JobRecord.parse(stored.value);
    if (record.run?.id !== runId) {
      // It has done its work already, or somebody has given it up: then it finds nothing to do.
      if (!isSettled(record.status)) await cancelIfPossible(context, runs, execution);
      return;
    }
    record.run = { ...record.run, state: 'started', execution };
    try {
      await context.records.replace(stored.key, record, stored.generation, { label: record.status });
    } catch (error) {
      if (error instanceof RecordConflict) continue;
      throw error;
    }
    if (isSettled(record.status)) await stopUnwantedRun(context, job);
    return;
  }
}

async function cancelIfPossible(context: WorkerContext, runs: Runs, execution: string): Promise<void> {
  try {
    await runs.cancel(execution);
  } catch (error) {
    context.log.warn({ err: error, execution }, 'a run that nobody needs could not be stopped');
  }
}

/** What follows the name of the backend. */
const BECAUSE: Record<Refusal, string> = {
  busy: 'has no room for another job at the moment',
  forbidden: 'may not be started by this service',
  missing: 'is not there',
  invalid: 'is not configured right',
};
/** What its operator does about it. */
const ADVICE: Record<Refusal, string> = {
  busy: 'It will be asked again.',
  forbidden:
    'Its operator gives the account of cpu-service the right to start it: Cloud Run Jobs Executor With Overrides and Cloud Run Viewer on the job, or Vertex AI User on the project and Service Account User on the account of the job.',
  missing: 'Its operator deploys it, or takes it out of BACKENDS.',
  invalid: 'Its operator finds the reason in the log of cpu-service.',
};

function refused(
  context: WorkerContext,
  record: JobRecord,
  generation: string,
  part: number,
  error: RunRefused,
): Promise<Outcome> {
  const { refusal, isPassing, message } = error;
  const { id, backend } = record;
  context.log.warn({ job: id, backend, refusal, reason: message }, 'the backend refused the run');
  return passOver(
    context,
    record,
    generation,
    part,
    { because: BECAUSE[refusal], is_passing: isPassing },
    `The backend ${backend} ${BECAUSE[refusal]}. ${ADVICE[refusal]} Then retry the transcription.`,
  );
}

async function passOver(
  context: WorkerContext,
  record: JobRecord,
  generation: string,
  part: number,
  reason: Reason,
  problem: string,
): Promise<Outcome> {
  const next = await passOn(context, record, generation, reason, { part });
  if (next === 'handed-over') return DONE;
  if (next === 'stays') return stay(context, record, generation, reason.because);
  const error = new ServiceError('backend-refused', problem);
  await settleUnclaimed(context, { ...record, run: null }, generation, error);
  return { kind: 'failed', error };
}

/** It is asked again. */
async function stay(
  context: WorkerContext,
  record: JobRecord,
  generation: string,
  because: string,
): Promise<Outcome> {
  if (record.run !== null) {
    const unstarted: JobRecord = { ...record, run: null };
    await context.records.replace(jobKey(record), unstarted, generation, { label: record.status });
  }
  return later(`The backend ${record.backend} ${because}.`);
}

/** Nothing of it counts as an attempt: the same task comes again. */
function later(detail: string): Outcome {
  return { kind: 'retry', error: new ServiceError('backend-refused', detail) };
}
