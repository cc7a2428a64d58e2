import { type Backend, isJobBackend } from '../backends.ts';
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
  backends: readonly Backend[],
  record: JobRecord,
  { isContinuation = false }: { isContinuation?: boolean } = {},
): Task {
  const type = nextTaskType(record);
  const tries = record.tries[type];
  const attempt = record.attempts_before[type] + tries.attempt + (isContinuation ? 0 : 1);
  const place = { part: isContinuation ? tries.part + 1 : 1, handover: record.handovers };
  if (type === 'ingest') return jobTask(CPU_QUEUE, record, type, attempt, place);
  const backend = backends.find(({ name }) => name === record.backend);
  return backend !== undefined && isJobBackend(backend)
    ? jobTask(CPU_QUEUE, record, 'start-run', attempt, place)
    : jobTask(record.backend, record, type, attempt, place);
}
