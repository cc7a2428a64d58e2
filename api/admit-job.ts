import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { JobRecord } from '../core/job.ts';
import { idempotencyKey, type JobRef, jobKey, mediaKey, takenOverMediaKey } from '../core/objects.ts';
import type { ParsedOptions } from '../core/options.ts';
import { ServiceError } from '../core/problem.ts';
import { RecordConflict, type Records } from '../core/records/records.ts';
import { removeTraces } from '../core/tasks/delete-job.ts';
import { keepActive, markActive } from '../core/tasks/mark-active.ts';
import { newJobRecord } from '../core/tasks/new-job.ts';
import { CPU_QUEUE, jobTask } from '../core/tasks/task.ts';
import type { ApiDependencies } from './dependencies.ts';

type AdmitDependencies = Pick<ApiDependencies, 'blobs' | 'records' | 'queue' | 'log' | 'now'>;

export interface Submission extends ParsedOptions {
  source: JobRecord['source'];
  routing: JobRecord['routing'];
  model: string | null;
  idempotencyHash: string | null;
}

/** What a key stands for: the one id that a job of it can have. */
interface KeyRecord {
  id: string;
}

/**
 * Turns stored media into a job. With an idempotency key there is only ever one job of it, however many requests
 * arrive at once or die on the way: they agree on an id through the key's record, and only one can create that job.
 * The media of the others is removed.
 */
export async function admitJob(
  dependencies: AdmitDependencies,
  job: JobRef,
  submission: Submission,
): Promise<{ record: JobRecord; isNew: boolean }> {
  const { blobs, records, log } = dependencies;
  const target = { owner: job.owner, id: await agreeOnId(records, job, submission) };
  const isTakenOver = target.id !== job.id;
  if (isTakenOver) {
    const existing = await firstOne(records, target);
    if (existing !== undefined) return await joinFirst(dependencies, job, submission, existing);
  }

  const record = newJobRecord(target, { ...submission, nowMs: dependencies.now() });
  const bringsMedia = isTakenOver && record.objects.media !== null;
  if (bringsMedia) record.objects.media = await bringMedia(dependencies, job, target);
  try {
    await records.create(jobKey(target), record, { label: record.status });
  } catch (error) {
    if (!(error instanceof RecordConflict)) throw error;
    if (bringsMedia) await blobs.delete(takenOverMediaKey(target, job));
    const stored = await records.read(jobKey(target));
    // Created and deleted again while we were at it: whoever deleted it wanted it gone.
    if (stored === undefined) throw new ServiceError('not-found', 'The transcription was deleted meanwhile.');
    return await joinFirst(dependencies, job, submission, JobRecord.parse(stored.value));
  }
  if (isTakenOver) {
    await removeTraces(dependencies, job);
    await blobs.delete(mediaKey(target));
  }
  try {
    await dependencies.queue.enqueue(jobTask(CPU_QUEUE, target, 'ingest', 1));
  } catch (error) {
    // The job is safe, and reconcile gives it a task: an error would only make the client send everything again.
    log.warn({ err: error, job: target.id }, 'the task could not be put on the queue; reconcile will do it');
  }
  return { record, isNew: true };
}

async function agreeOnId(records: Records, job: JobRef, { idempotencyHash }: Submission): Promise<string> {
  if (idempotencyHash === null) return job.id;
  const key = idempotencyKey(job.owner, idempotencyHash);
  const ours: KeyRecord = { id: job.id };
  for (;;) {
    try {
      await records.create(key, ours);
      return job.id;
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
    }
    const theirs = (await records.read(key))?.value as KeyRecord | undefined;
    // Without one, its job was deleted in this very moment: the key is free again.
    if (theirs !== undefined) return theirs.id;
  }
}

/**
 * What the client gets whose request was not the first of its key.
 * @throws {ServiceError} `idempotency-mismatch`
 */
async function joinFirst(
  dependencies: AdmitDependencies,
  job: JobRef,
  submission: Submission,
  first: JobRecord,
): Promise<{ record: JobRecord; isNew: false }> {
  // Nothing to discard when it is our own, whose answer was lost on the way from the store.
  if (first.id !== job.id) await removeTraces(dependencies, job);
  if (fingerprint(first) === fingerprint(submission)) return { record: first, isNew: false };
  throw new ServiceError(
    'idempotency-mismatch',
    'This idempotency key was used with other options or another file. Use a new key for a new request.',
  );
}

/** The same options and the same bytes, or address; what the file is called does not matter. */
function fingerprint({
  options,
  metadata,
  source,
}: Pick<Submission, 'options' | 'metadata' | 'source'>): string {
  const canonical = [options, metadata].map((object) =>
    Object.entries(object)
      .filter(([, value]) => value !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  return createHash('sha256')
    .update(JSON.stringify([canonical, source.sha256, source.address]))
    .digest('hex');
}

/** Between the key's record and the job's there is a moment; a request that has not come further in this time is dead. */
const FIRST_ONE_MS = 2_000;

async function firstOne(records: Records, job: JobRef): Promise<JobRecord | undefined> {
  const endMs = performance.now() + FIRST_ONE_MS;
  for (;;) {
    const stored = await records.read(jobKey(job));
    if (stored !== undefined) return JobRecord.parse(stored.value);
    if (performance.now() > endMs) return undefined;
    await sleep(50);
  }
}

/**
 * Puts our media where that of the job will be looked for, beside what the dead request has left: it may have sent
 * something else, and be slow instead of dead.
 */
async function bringMedia(
  { blobs, records, queue, log, now }: AdmitDependencies,
  from: JobRef,
  to: JobRef,
): Promise<string> {
  const key = takenOverMediaKey(to, from);
  await markActive({ records, queue }, to, now());
  using _marker = keepActive(records, to, log);
  await blobs.copy(mediaKey(from), key);
  return key;
}
