import { JobRecord, type StageName, type Warning } from '../job.ts';
import { type JobRef, jobKey } from '../objects.ts';
import { ServiceError } from '../problem.ts';
import type { Queue } from '../queue/queue.ts';
import { RecordConflict, type Records } from '../records/records.ts';
import { nextTaskType } from './claim-job.ts';
import { markActive } from './mark-active.ts';
import { canRetry } from './settle-job.ts';
import { CPU_QUEUE, jobTask, type Task } from './task.ts';

/** What each warning says was not done, and so is done again. */
const STAGE_OF_WARNING: Record<Warning['code'], StageName | undefined> = {
  'alignment-failed': 'align',
  'media-damaged': undefined,
  'save-failed': 'write',
  'diarization-failed': 'diarize',
  'no-speech': undefined,
};

/**
 * Puts a failed or canceled job, or one that completed without a stage, back on its queue. Finished stages are kept;
 * a transcript that is there stays readable until the new one is named.
 * @returns the record as it is now; nothing when there is no such job
 * @throws {ServiceError} `not-retryable`
 */
export async function retryJob(
  { records, queue }: { records: Records; queue: Queue },
  job: JobRef,
  nowMs: number = Date.now(),
): Promise<JobRecord | undefined> {
  for (;;) {
    const stored = await records.read(jobKey(job));
    if (stored === undefined) return undefined;
    const record = JobRecord.parse(stored.value);
    if (!canRetry(record)) throw notRetryable(record);
    const task = startAnew(record, nowMs);
    await markActive({ records, queue }, job, nowMs);
    try {
      await records.replace(jobKey(job), record, stored.generation, { label: record.status });
    } catch (error) {
      // Another retry was faster: then there is nothing left to retry.
      if (error instanceof RecordConflict) continue;
      throw error;
    }
    await queue.enqueue(task);
    return record;
  }
}

function startAnew(record: JobRecord, nowMs: number): Task {
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
  const type = nextTaskType(record);
  const queue = type === 'ingest' ? CPU_QUEUE : record.backend;
  const task = jobTask(queue, { owner: record.owner, id: record.id }, type, record.attempts_before[type] + 1);

  record.status = 'queued';
  record.stage = null;
  record.fruitless_calls = 0;
  record.given_up = [];
  record.problem = null;
  record.cancel_requested = false;
  record.completed_at = null;
  record.queued_at = new Date(nowMs).toISOString();
  record.lease = null;
  record.task = { queue: task.queue, name: task.name };
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
