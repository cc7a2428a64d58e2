import type { Backend } from '../backends.ts';
import type { JobRecord } from '../job.ts';
import { CPU_QUEUE, jobTask, type Task } from './task.ts';

export type JobTaskType = 'ingest' | 'transcribe';

/** Ingest makes the audio, transcribe needs it: the record itself says which task carries the job on. */
export function nextTaskType(record: Pick<JobRecord, 'objects'>): JobTaskType {
  return record.objects.audio === null ? 'ingest' : 'transcribe';
}

/**
 * The task that carries the job on from where its record says it is: the next attempt, or with `isContinuation` the
 * next part of this one. Every task of a job but the very first is made here.
 */
export function nextTask(
  _backends: readonly Backend[],
  record: JobRecord,
  { isContinuation = false }: { isContinuation?: boolean } = {},
): Task {
  const type = nextTaskType(record);
  const { attempt, part } = record.tries[type];
  const number = record.attempts_before[type] + attempt + (isContinuation ? 0 : 1);
  const queue = type === 'ingest' ? CPU_QUEUE : record.backend;
  const job = { owner: record.owner, id: record.id };
  return jobTask(queue, job, type, number, isContinuation ? part + 1 : 1);
}
