import { createHash } from 'node:crypto';
import type { JobRef, UploadRef } from '../objects.ts';

/** What can be asked of a service. Each type has one handler. */
export type TaskType = 'ingest' | 'transcribe' | 'start-run' | 'stop-run' | 'reconcile' | 'expire-upload';

export interface TaskPayload {
  type: TaskType;
  /** The job it is about; absent for those that are about none. */
  job?: JobRef;
  /** Of expire-upload. */
  upload?: UploadRef;
  /** Above 1 the task continues the attempt of an earlier one. */
  part?: number;
  /** Of start-run: the run it starts, and of the transcribe task that this run then is. */
  run?: string;
  /** Of reconcile: the minute it is named after. */
  dueMs?: number;
}

/** One unit on a queue. */
export interface Task {
  queue: string;
  name: string;
  payload: TaskPayload;
}

/** What a job's record keeps of its task: enough to look for it. */
export function taskRef({ queue, name }: Task): Pick<Task, 'queue' | 'name'> {
  return { queue, name };
}

/** The queue of cpu-service. The other queues carry the names of their backends. */
export const CPU_QUEUE = 'cpu';

/** Cloud Tasks is slow with names that follow each other: the hash in front spreads them. */
function spread(name: string): string {
  return `${createHash('sha256').update(name).digest('hex').slice(0, 8)}-${name}`;
}

export function jobTask(queue: string, job: JobRef, type: TaskType, attempt: number, part = 1): Task {
  const name = spread(`${job.id}-${type}-a${attempt}-p${part}`);
  return { queue, name, payload: { type, job, part } };
}

/** Starts a run of the job's backend, which then does the transcribe task of this part. */
export function startRunTask(job: JobRef, run: { id: string; backend: string }, part: number): Task {
  return {
    queue: CPU_QUEUE,
    name: spread(`${run.id}-start-${run.backend}`),
    payload: { type: 'start-run', job, part, run: run.id },
  };
}

/** Stops the run of a job that needs it no more. */
export function stopRunTask(job: JobRef, run: { id: string; backend: string }): Task {
  return {
    queue: CPU_QUEUE,
    name: spread(`${run.id}-stop-${run.backend}`),
    payload: { type: 'stop-run', job },
  };
}

export function expireUploadTask(upload: UploadRef): Task {
  return {
    queue: CPU_QUEUE,
    name: spread(`expire-${upload.id}`),
    payload: { type: 'expire-upload', upload },
  };
}

/** Named after its minute, so that there is only ever one. */
export function reconcileTask(dueMs: number): Task {
  return {
    queue: CPU_QUEUE,
    name: spread(`reconcile-${Math.floor(dueMs / 60_000)}`),
    payload: { type: 'reconcile', dueMs },
  };
}
