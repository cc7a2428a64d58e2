import type { Backend } from '../backends.ts';
import type { Blobs } from '../blobs/blobs.ts';
import { jobCost } from '../costs/job-cost.ts';
import { tryNoteCost } from '../costs/note-cost.ts';
import { PRICES, type Prices } from '../costs/prices.ts';
import { isSettled, JobRecord, type Run } from '../job.ts';
import type { Logger } from '../log.ts';
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
import { RecordConflict, type Records } from '../records/records.ts';
import { markActive } from './mark-active.ts';
import { stopRunTask } from './task.ts';

/**
 * Removes the job and everything of it. The marker goes last, so that reconcile finishes what a crash interrupts; it
 * stays for reconcile where a worker may be at it, because that one may write once more before it notices.
 * @returns whether there was such a job
 */
export async function deleteJob(
  context: {
    records: Records;
    blobs: Blobs;
    queue: Queue;
    log: Logger;
    backends: readonly Backend[];
    prices?: Prices;
  },
  job: JobRef,
): Promise<boolean> {
  const { records, blobs, queue, backends, prices = PRICES } = context;
  const stored = await records.read(jobKey(job));
  if (stored === undefined) return false;
  const record = JobRecord.parse(stored.value);
  await markActive({ records, queue }, job);
  const { run } = record;
  if (run !== null) await noteRun(records, job, run);
  if (record.task !== null) await queue.delete(record.task);
  if (record.idempotency_hash !== null) await forgetKey(records, job, record.idempotency_hash);
  // Nobody will settle it: what it was expected to cost must not stand for ever.
  await tryNoteCost(context, record, jobCost(record, { backends, prices }));
  await records.delete(jobKey(job));
  if (record.checkpoints.fetch !== null) await blobs.cancelPartial(record.checkpoints.fetch.partial);
  await deleteJobBlobs(blobs, job);
  if (run !== null) await queue.enqueue(stopRunTask(job, run));
  else if (isSettled(record.status)) await records.delete(activeKey(job));
  return true;
}

/** In the marker, which outlives the record: it is still to be stopped. */
async function noteRun(records: Records, job: JobRef, run: Run): Promise<void> {
  const key = activeKey(job);
  for (;;) {
    const marker = await records.read(key);
    const value = { ...(marker?.value as object | undefined), run };
    try {
      if (marker === undefined) await records.create(key, value);
      else await records.replace(key, value, marker.generation);
      return;
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
    }
  }
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
