import { setTimeout as sleep } from 'node:timers/promises';
import { isSettled, JobRecord } from '../core/job.ts';
import { jobKey } from '../core/objects.ts';
import type { Records } from '../core/records/records.ts';

const POLL_MS = 250;

/** The record once the job has ended, or as it is when the time is over, the job is gone or `signal` aborts. */
export async function waitUntilSettled(
  records: Records,
  record: JobRecord,
  { seconds, signal }: { seconds: number; signal: AbortSignal },
): Promise<JobRecord> {
  const endMs = performance.now() + seconds * 1_000;
  let latest = record;
  while (!isSettled(latest.status) && !signal.aborted && performance.now() < endMs) {
    await sleep(Math.min(POLL_MS, endMs - performance.now()), undefined, { signal }).catch(() => {});
    const stored = await records.read(jobKey(record));
    if (stored === undefined) break;
    latest = JobRecord.parse(stored.value);
  }
  return latest;
}
