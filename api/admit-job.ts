import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { JobRecord } from '../core/job.ts';
import { activeKey, idempotencyKey, type JobRef, jobKey, mediaKey } from '../core/objects.ts';
import type { ParsedOptions } from '../core/options.ts';
import { ServiceError } from '../core/problem.ts';
import { RecordConflict, type Records } from '../core/records/records.ts';
import { deleteJobBlobs } from '../core/tasks/delete-job.ts';
import { markActive } from '../core/tasks/mark-active.ts';
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

/** What a key stands for: the job, and what was asked for under it. */
interface KeyRecord {
  id: string;
  fingerprint: string;
}

/**
 * Turns stored media into a job. With an idempotency key there is only ever one job of it, however many requests
 * arrive at once or die on the way: they agree on an id through the key's record, and only one can create that job.
 * The media of a request that was not first is removed.
 */
export async function admitJob(
  dependencies: AdmitDependencies,
  job: JobRef,
  submission: Submission,
): Promise<{ record: JobRecord; isNew: boolean }> {
  const { records, log } = dependencies;
  const agreed = await agreeOnId(records, job, submission);
  const target = { owner: job.owner, id: agreed };
  if (agreed !== job.id) {
    const existing = await firstOne(records, target);
    if (existing === undefined) await takeOver(dependencies, job, target, submission.source.content_type);
    await discardUpload(dependencies, job);
    if (existing !== undefined) return { record: existing, isNew: false };
  }

  const record = newJobRecord(target, { ...submission, nowMs: dependencies.now() });
  try {
    await records.create(jobKey(target), record, { label: record.status });
  } catch (error) {
    if (!(error instanceof RecordConflict)) throw error;
    const stored = await records.read(jobKey(target));
    // Created and deleted again while we were at it: whoever deleted it wanted it gone.
    if (stored === undefined) throw new ServiceError('not-found', 'The transcription was deleted meanwhile.');
    return { record: JobRecord.parse(stored.value), isNew: false };
  }
  try {
    await dependencies.queue.enqueue(jobTask(CPU_QUEUE, target, 'ingest', 1));
  } catch (error) {
    // The job is safe, and reconcile gives it a task: an error would only make the client send everything again.
    log.warn({ err: error, job: target.id }, 'the task could not be put on the queue; reconcile will do it');
  }
  return { record, isNew: true };
}

/** Nothing is left of an upload that does not become a job. The marker goes last. */
export async function discardUpload(
  { blobs, records }: Pick<ApiDependencies, 'blobs' | 'records'>,
  job: JobRef,
): Promise<void> {
  await deleteJobBlobs(blobs, job);
  await records.delete(activeKey(job));
}

async function agreeOnId(records: Records, job: JobRef, submission: Submission): Promise<string> {
  if (submission.idempotencyHash === null) return job.id;
  const key = idempotencyKey(job.owner, submission.idempotencyHash);
  const ours: KeyRecord = { id: job.id, fingerprint: fingerprint(submission) };
  for (;;) {
    try {
      await records.create(key, ours);
      return job.id;
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
    }
    const theirs = (await records.read(key))?.value as KeyRecord | undefined;
    // Its job was deleted in this very moment: the key is free again.
    if (theirs === undefined) continue;
    if (theirs.fingerprint === ours.fingerprint) return theirs.id;
    throw new ServiceError(
      'idempotency-mismatch',
      'This idempotency key was used with other options or another file. Use a new key for a new request.',
    );
  }
}

/** The same options and the same bytes; what the file is called does not matter. */
function fingerprint({ options, metadata, source }: Submission): string {
  const canonical = [options, metadata].map((object) =>
    Object.entries(object)
      .filter(([, value]) => value !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  return createHash('sha256')
    .update(JSON.stringify([canonical, source.sha256]))
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

/** Puts our media, which is the same, where that of the dead request would be. */
async function takeOver(
  { blobs, records, queue, now }: AdmitDependencies,
  from: JobRef,
  to: JobRef,
  contentType: string,
): Promise<void> {
  await markActive({ records, queue }, to, now());
  await blobs.write(mediaKey(to), await blobs.read(mediaKey(from)), { contentType });
}
