import { createHash } from 'node:crypto';
import type { InstanceRef, JobRef, UploadRef } from '../objects.ts';

/** What can be asked of a service. Each type has one handler. */
export type TaskType =
  | 'ingest'
  | 'transcribe'
  | 'start-run'
  | 'stop-run'
  | 'reconcile'
  | 'expire-upload'
  | 'attribute-costs';

export interface TaskPayload {
  type: TaskType;
  /** The job it is about; absent for those that are about none. */
  job?: JobRef;
  /** Of expire-upload. */
  upload?: UploadRef;
  /** Above 1 the task continues the attempt of an earlier one. */
  part?: number;
  /** Of a transcribe task that is done by a run of its own: which. */
  run?: string;
  /** Of attribute-costs. */
  instance?: InstanceRef;
  /** Of reconcile and attribute-costs: the minute it is named after. */
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

/** `handover`: how often it was handed to somebody else without an attempt being made, or counted. */
export function jobTask(
  queue: string,
  { owner, id }: JobRef,
  type: TaskType,
  attempt: number,
  { part = 1, handover = 0 }: { part?: number; handover?: number } = {},
): Task {
  const name = spread(`${id}-${type}-a${attempt}-p${part}${handover === 0 ? '' : `-h${handover}`}`);
  return { queue, name, payload: { type, job: { owner, id }, part } };
}

/** Stops the run of a job that needs it no more. */
export function stopRunTask({ owner, id }: JobRef, run: { id: string }): Task {
  return {
    queue: CPU_QUEUE,
    name: spread(`${run.id}-stop`),
    payload: { type: 'stop-run', job: { owner, id } },
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

/** Shares out what an instance has cost, once it has ended. Named after its minute, so that there is one at a time. */
export function attributeCostsTask(instance: InstanceRef, dueMs: number): Task {
  const { backend, id } = instance;
  return {
    queue: CPU_QUEUE,
    name: spread(`attribute-${backend}-${id}-${Math.floor(dueMs / 60_000)}`),
    payload: { type: 'attribute-costs', instance: { backend, id }, dueMs },
  };
}
