import { isDeepStrictEqual } from 'node:util';
import { isSettled } from '../job.ts';
import { jobKey } from '../objects.ts';
import { ServiceError, toServiceError } from '../problem.ts';
import { ATTEMPT_LIMIT, claimJob } from './claim-job.ts';
import { removeTraces } from './delete-job.ts';
import { Interrupted, JobCanceled, type JobSession, LeaseLost, TimeIsUp } from './job-session.ts';
import { type JobTaskType, nextTask } from './next-task.ts';
import type { Outcome } from './outcome.ts';
import { settleJob } from './settle-job.ts';
import { type TaskPayload, taskRef } from './task.ts';
import type { WorkerContext } from './worker-context.ts';

/**
 * The frame of every task that works on a job: claim, work, and an end for everything that can go wrong.
 * `work` settles the job or hands it on by itself; what it throws is recorded here.
 */
export async function runJobTask(
  context: WorkerContext,
  type: JobTaskType,
  payload: TaskPayload,
  interruption: AbortSignal,
  work: (session: JobSession) => Promise<Outcome>,
): Promise<Outcome> {
  if (payload.job === undefined) throw new TypeError(`a ${type} task needs a job`);
  const { job, part = 1, run } = payload;
  const session = await claimJob(context, job, { type, part, run }, interruption);
  if (session === undefined) return { kind: 'done' };
  try {
    return await work(session);
  } catch (error) {
    return await recordFailure(context, type, session, error);
  } finally {
    await session.end();
  }
}

async function recordFailure(
  context: WorkerContext,
  type: JobTaskType,
  session: JobSession,
  error: unknown,
): Promise<Outcome> {
  // Whatever broke first because of the abort, the abort is the reason.
  const reason: unknown = session.signal.aborted ? session.signal.reason : error;
  const log = context.log.child({ job: session.job.id, epoch: session.epoch });
  if (isSettled(session.record.status)) {
    log.warn({ err: error }, 'the job is settled, but not all of it is cleared away; reconcile will do it');
    return { kind: 'done' };
  }
  try {
    if (reason instanceof LeaseLost) {
      log.warn({ reason: reason.message }, 'gave the job up');
      // Its user has deleted it: what was written since is removed too.
      const isDeleted = (await context.records.read(jobKey(session.job))) === undefined;
      if (isDeleted) await removeTraces(context, session.job);
      return { kind: 'done' };
    }
    if (reason instanceof JobCanceled) {
      await settleJob(context, session, 'canceled');
      return { kind: 'done' };
    }
    if (reason instanceof Interrupted) {
      await giveBack(session, session.triesBefore);
      return { kind: 'retry', error: new ServiceError('interrupted', 'The worker was asked to stop.') };
    }
    if (reason instanceof TimeIsUp) return await continueLater(context, session);
    const failure = toServiceError(reason);
    log.error({ err: reason, slug: failure.slug }, 'the attempt failed');
    if (failure.retry && session.record.tries[type].attempt < ATTEMPT_LIMIT) {
      await giveBack(session, session.record.tries);
      return { kind: 'retry', error: failure };
    }
    await settleJob(context, session, failure);
    return { kind: 'failed', error: failure };
  } catch (second) {
    if (second instanceof LeaseLost) return { kind: 'done' };
    // The failure could not be recorded (a full disk, say). Once the lease has run out, reconcile gives it a task.
    log.error({ err: second }, 'the failure could not be recorded');
    return { kind: 'retry', error: toServiceError(second) };
  }
}

/** Calls in a row that store nothing new before the stage they were at is given up. */
const FRUITLESS_CALL_LIMIT = 2;

/**
 * Puts the next part of the job on the queue. A stage that two calls in a row could not finish or advance never will:
 * the text is worth having without alignment and speakers, anything else fails the job.
 */
async function continueLater(context: WorkerContext, session: JobSession): Promise<Outcome> {
  const { record } = session;
  const hasAdvanced = !isDeepStrictEqual(record.checkpoints, session.checkpointsBefore);
  const fruitless = hasAdvanced ? 0 : record.fruitless_calls + 1;
  const isStuck = fruitless >= FRUITLESS_CALL_LIMIT;
  const optional = record.stage === 'align' || record.stage === 'diarize' ? record.stage : null;
  if (isStuck && optional === null) {
    const error = new ServiceError(
      'no-progress',
      'The recording could not be worked on in pieces small enough for this backend. Use a smaller model or a faster backend.',
    );
    await settleJob(context, session, error);
    return { kind: 'failed', error };
  }
  const task = nextTask(context.backends, record, { isContinuation: true });
  await session.update((next) => {
    next.fruitless_calls = isStuck ? 0 : fruitless;
    if (isStuck && optional !== null) next.given_up.push(optional);
    next.task = taskRef(task);
    next.run = null;
    next.lease = null;
    next.stage = null;
  });
  await context.queue.enqueue(task);
  return { kind: 'continue' };
}

async function giveBack(session: JobSession, tries: JobSession['triesBefore']): Promise<void> {
  const kept = structuredClone(tries);
  await session.update((record) => {
    record.lease = null;
    record.stage = null;
    // If it was started for this job, it ends now, and whatever does the next try is another.
    record.run = null;
    record.tries = kept;
  });
}
