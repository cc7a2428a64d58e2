import { type Backend, isJobBackend } from '../backends.ts';
import type { JobRecord } from '../job.ts';
import { CPU_QUEUE, jobTask, startRunTask, type Task } from './task.ts';

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
  const part = isContinuation ? tries.part + 1 : 1;
  const job = { owner: record.owner, id: record.id };
  if (type === 'ingest') return jobTask(CPU_QUEUE, job, type, attempt, part);
  const backend = backends.find(({ name }) => name === record.backend);
  if (backend === undefined || !isJobBackend(backend)) {
    return jobTask(record.backend, job, type, attempt, part);
  }
  // A run that was claimed and given back does not count as an attempt, and yet the next is another one.
  const id = `${record.id}-a${attempt}-p${part}-e${record.epoch}`;
  return startRunTask(job, { id, backend: backend.name }, part);
}
