import { isSettled, JobRecord } from '../job.ts';
import { type JobRef, jobKey } from '../objects.ts';
import { RecordConflict } from '../records/records.ts';
import { isLeaseLive } from './lease.ts';
import { settleUnclaimed } from './settle-job.ts';

/**
 * Cancels at once what nobody works on; otherwise asks the worker, which stops within seconds. A job that has ended
 * stays as it is, so calling twice is harmless.
 * @returns the record as it is now; nothing when there is no such job
 */
export async function cancelJob(
  context: Parameters<typeof settleUnclaimed>[0],
  job: JobRef,
): Promise<JobRecord | undefined> {
  const { records, queue } = context;
  for (;;) {
    const stored = await records.read(jobKey(job));
    if (stored === undefined) return undefined;
    const record = JobRecord.parse(stored.value);
    if (isSettled(record.status)) return record;
    try {
      if (isLeaseLive(record, stored.ageMs)) {
        if (record.cancel_requested) return record;
        const asked = { ...record, cancel_requested: true };
        await records.replace(jobKey(job), asked, stored.generation, { label: asked.status });
        return asked;
      }
      await settleUnclaimed(context, record, stored.generation, 'canceled');
      if (record.task !== null) await queue.delete(record.task);
    } catch (error) {
      // A worker has claimed or settled it meanwhile.
      if (!(error instanceof RecordConflict)) throw error;
    }
  }
}
