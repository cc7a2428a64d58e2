import type { Blobs } from '../blobs/blobs.ts';
import { isSettled, JobRecord } from '../job.ts';
import {
  activeKey,
  idempotencyKey,
  type JobRef,
  jobKey,
  mediaPrefix,
  transcriptPrefix,
  workPrefix,
} from '../objects.ts';
import type { Queue } from '../queue/queue.ts';
import type { Records } from '../records/records.ts';
import { markActive } from './mark-active.ts';

/**
 * Removes the job and everything of it. The marker goes last, so that reconcile finishes what a crash interrupts; it
 * stays for reconcile where a worker may be at it, because that one may write once more before it notices.
 * @returns whether there was such a job
 */
export async function deleteJob(
  { records, blobs, queue }: { records: Records; blobs: Blobs; queue: Queue },
  job: JobRef,
): Promise<boolean> {
  const stored = await records.read(jobKey(job));
  if (stored === undefined) return false;
  const record = JobRecord.parse(stored.value);
  await markActive({ records, queue }, job);
  if (record.task !== null) await queue.delete(record.task);
  if (record.idempotency_hash !== null) await forgetKey(records, job, record.idempotency_hash);
  await records.delete(jobKey(job));
  if (record.checkpoints.fetch !== null) await blobs.cancelPartial(record.checkpoints.fetch.partial);
  await deleteJobBlobs(blobs, job);
  if (isSettled(record.status)) await records.delete(activeKey(job));
  return true;
}

/** Of a job without a record: an upload that broke off, or what a late worker wrote. The marker goes last. */
export async function removeTraces(
  { blobs, records }: { blobs: Blobs; records: Records },
  job: JobRef,
): Promise<void> {
  await deleteJobBlobs(blobs, job);
  await records.delete(activeKey(job));
}

export async function deleteJobBlobs(blobs: Blobs, job: JobRef): Promise<void> {
  await blobs.deletePrefix(mediaPrefix(job));
  await blobs.deletePrefix(workPrefix(job));
  await blobs.deletePrefix(transcriptPrefix(job));
}

/** The user may use the key again, for a new job. */
async function forgetKey(records: Records, job: JobRef, hash: string): Promise<void> {
  const key = idempotencyKey(job.owner, hash);
  const stored = await records.read(key);
  if ((stored?.value as { id?: string } | undefined)?.id === job.id) await records.delete(key);
}
