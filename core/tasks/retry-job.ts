import type { Backend } from '../backends.ts';
import { checkSpendLimit } from '../costs/spend-limit.ts';
import { JobRecord, type StageName, type Warning } from '../job.ts';
import { type JobRef, jobKey } from '../objects.ts';
import { ServiceError } from '../problem.ts';
import { RecordConflict } from '../records/records.ts';
import { chooseBackend, toRoute } from '../routing/choose-backend.ts';
import { noteChoice } from '../routing/note-choice.ts';
import { markActive } from './mark-active.ts';
import { nextTask } from './next-task.ts';
import { canRetry } from './settle-job.ts';
import { type Task, taskRef } from './task.ts';
import type { WorkerContext } from './worker-context.ts';

/** What each warning says was not done, and so is done again. */
const STAGE_OF_WARNING: Record<Warning['code'], StageName | undefined> = {
  'alignment-failed': 'align',
  'media-damaged': undefined,
  'save-failed': 'write',
  'diarization-failed': 'diarize',
  'no-speech': undefined,
  'words-missing': undefined,
  'speakers-not-matched': undefined,
};

/**
 * Puts a failed or canceled job, or one that completed without a stage, back on its queue. Finished stages are kept;
 * a transcript that is there stays readable until the new one is named.
 * @returns the record as it is now; nothing when there is no such job
 * @throws {ServiceError} `not-retryable`, `spend-limit-reached`, or why no backend takes it
 */
export async function retryJob(
  context: Pick<WorkerContext, 'records' | 'queue' | 'backends' | 'log' | 'dailySpendLimitUsd'>,
  job: JobRef,
  nowMs: number = Date.now(),
): Promise<JobRecord | undefined> {
  const { records, queue, backends } = context;
  for (;;) {
    const stored = await records.read(jobKey(job));
    if (stored === undefined) return undefined;
    const record = JobRecord.parse(stored.value);
    if (!canRetry(record)) throw notRetryable(record);
    record.requested_at = new Date(nowMs).toISOString();
    // Where it goes may have changed since; and who had passed it over may take it now.
    const { routing } = await chooseBackend(context, toRoute(record));
    await checkSpendLimit(context, routing.chosen, nowMs);
    const task = startAnew(record, routing, backends, nowMs);
    await markActive({ records, queue }, job, nowMs);
    try {
      await records.replace(jobKey(job), record, stored.generation, { label: record.status });
    } catch (error) {
      // Another retry was faster: then there is nothing left to retry.
      if (error instanceof RecordConflict) continue;
      throw error;
    }
    await queue.enqueue(task);
    await noteChoice(context, record);
    return record;
  }
}

function startAnew(
  record: JobRecord,
  routing: JobRecord['routing'],
  backends: readonly Backend[],
  nowMs: number,
): Task {
  const again = new Set<StageName>(['write']);
  for (const { code } of record.warnings) {
    const stage = STAGE_OF_WARNING[code];
    if (stage !== undefined) again.add(stage);
  }
  if (again.has('align')) record.checkpoints.align = [];
  if (again.has('diarize')) record.checkpoints.diarize = null;
  record.stages = record.stages.filter((stage) => stage.status === 'done' && !again.has(stage.name));
  record.warnings = record.warnings.filter(({ code }) => STAGE_OF_WARNING[code] === undefined);

  for (const type of ['ingest', 'transcribe'] as const) {
    // One more than were made: the task of a job canceled before anybody claimed it has used up its name.
    record.attempts_before[type] += record.tries[type].attempt + 1;
    record.tries[type] = { attempt: 0, part: 0 };
  }
  if (record.cost !== null) {
    const { marginal_usd, attributed_usd } = record.cost;
    record.cost_before = { marginal_usd, attributed_usd };
  }
  record.routing = routing;
  record.backend = routing.chosen;
  record.status = 'queued';
  record.stage = null;
  record.fruitless_calls = 0;
  record.passed_over = [];
  // If it still starts, it finds nothing to do.
  record.run = null;
  record.given_up = [];
  record.problem = null;
  record.cancel_requested = false;
  record.completed_at = null;
  record.queued_at = new Date(nowMs).toISOString();
  record.lease = null;
  const task = nextTask(backends, record);
  record.task = taskRef(task);
  return task;
}

function notRetryable(record: JobRecord): ServiceError {
  const reason = {
    queued: 'The transcription has not ended yet.',
    processing: 'The transcription has not ended yet.',
    completed: 'Everything that was asked for is done.',
    failed: 'It would fail in the same way. Its problem says what to change; then submit it anew.',
    canceled: 'Its media is no longer stored. Submit it anew.',
  }[record.status];
  return new ServiceError('not-retryable', reason);
}
