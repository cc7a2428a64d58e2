import { settleCost } from '../costs/job-cost.ts';
import { tryNoteCost } from '../costs/note-cost.ts';
import { PRICES } from '../costs/prices.ts';
import { isSettled, JobRecord } from '../job.ts';
import { activeKey, epochOfKey, jobKey, mediaPrefix, transcriptPrefix, workPrefix } from '../objects.ts';
import { isPassing, ServiceError, toProblem } from '../problem.ts';
import { noWork } from './checkpoints.ts';
import type { JobSession } from './job-session.ts';
import { markActive } from './mark-active.ts';
import { stopRunTask } from './task.ts';
import type { WorkerContext } from './worker-context.ts';

/** How a job ends: the transcript that a session has stored, a failure, or a cancellation. */
export type Ending = { transcript: string } | ServiceError | 'canceled';

type SettleContext = Pick<WorkerContext, 'blobs' | 'records' | 'queue' | 'log' | 'backends' | 'prices'>;

/** Settles the job under the session's lease: first the record, then what nobody needs any more, last the marker. */
export async function settleJob(context: WorkerContext, session: JobSession, ending: Ending): Promise<void> {
  await session.update((record) => {
    settle(context, record, ending);
    // If it was started for this job, it is this process and about to end.
    record.run = null;
  });
  await removeLeftovers(context, session.record);
}

/** The same for a job that nobody works on. @throws {RecordConflict} when somebody has taken it meanwhile */
export async function settleUnclaimed(
  context: SettleContext,
  record: JobRecord,
  generation: string,
  ending: Ending,
): Promise<void> {
  const settled = structuredClone(record);
  settle(context, settled, ending);
  await context.records.replace(jobKey(record), settled, generation, { label: settled.status });
  await removeLeftovers(context, settled);
}

function settle(
  { backends, prices = PRICES }: Pick<SettleContext, 'backends' | 'prices'>,
  record: JobRecord,
  ending: Ending,
): void {
  record.stage = null;
  record.lease = null;
  record.task = null;
  record.cancel_requested = false;
  record.completed_at = new Date().toISOString();
  if (ending === 'canceled') {
    record.status = 'canceled';
  } else if (ending instanceof ServiceError) {
    record.status = 'failed';
    record.problem = toProblem(ending);
    // Trying again cannot help, so nothing of it is kept but the record.
    if (!ending.retry) {
      record.objects = { ...record.objects, media: null, audio: null, playback: null };
      record.checkpoints = { ...record.checkpoints, ...noWork() };
    }
  } else {
    record.status = 'completed';
    record.problem = null;
    record.objects.transcript = ending.transcript;
    record.metrics.processing_seconds = record.work_seconds;
    record.metrics.realtime_factor = realtimeFactor(record);
    if (!canRetry(record)) {
      record.objects.audio = null;
      record.checkpoints = { ...record.checkpoints, ...noWork() };
    }
  }
  settleCost(record, { backends, prices });
}

/** What a user's retry could still run. */
export function canRetry(
  record: Pick<JobRecord, 'status' | 'warnings' | 'objects' | 'source' | 'problem'>,
): boolean {
  if (record.status === 'completed') {
    return record.objects.audio !== null && record.warnings.some(({ code }) => code.endsWith('-failed'));
  }
  if (record.status !== 'failed' && record.status !== 'canceled') return false;
  if (record.objects.audio !== null || record.objects.media !== null) return true;
  // Where the media is, it may still be.
  return record.source.type !== 'upload' && (record.problem === null || isPassing(record.problem));
}

/**
 * Notes what the job has cost, removes what the settled record does not name, has a run stopped that is still there, and
 * last removes the marker.
 * Blobs of a higher epoch belong to an attempt that a user's retry has begun meanwhile. A crash in here is found by
 * reconcile; doing it twice is harmless.
 */
export async function removeLeftovers(context: SettleContext, settled: JobRecord): Promise<void> {
  const { blobs, records, queue } = context;
  // Without it the job has ended all the same, and reconcile notes it.
  const isNoted = settled.cost === null || (await tryNoteCost(context, settled, settled.cost));
  const kept = new Set<string | null>(Object.values(settled.objects).flat());
  const prefixes = [mediaPrefix(settled), transcriptPrefix(settled)];
  if (!canRetry(settled)) {
    prefixes.push(workPrefix(settled));
    const { fetch } = settled.checkpoints;
    if (fetch !== null) await blobs.cancelPartial(fetch.partial);
  }
  for (const prefix of prefixes) {
    for await (const { key } of blobs.list(prefix)) {
      if (!kept.has(key) && epochOfKey(key, prefix) <= settled.epoch) await blobs.delete(key);
    }
  }
  if (settled.run !== null) {
    // Only then is nothing left to do.
    await queue.enqueue(stopRunTask(settled, settled.run));
    return;
  }
  // The marker stays for what is still to do.
  if (!isNoted) return;
  await records.delete(activeKey(settled));
  // A retry in this moment has found the marker there, and counts on it.
  const stored = await records.read(jobKey(settled));
  if (stored !== undefined && !isSettled(JobRecord.parse(stored.value).status)) {
    await markActive({ records, queue }, settled);
  }
}

function realtimeFactor(record: JobRecord): number | null {
  const seconds = record.metrics.processing_seconds;
  if (seconds === null || seconds === 0 || record.duration_seconds === null) return null;
  return Math.round((record.duration_seconds / seconds) * 10) / 10;
}
