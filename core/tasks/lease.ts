import type { JobRecord } from '../job.ts';

/** How long a worker may work on a job after its last write to the record. */
export const LEASE_DURATION_MS = 60_000;
/** A third of it: two renewals may fail before the job goes to somebody else. */
export const LEASE_RENEW_MS = 20_000;

/**
 * Whether a worker still has the right to the job. `ageMs` is the age of the record by the store's clock; every
 * renewal writes the record. A write by somebody else (a cancellation) lengthens a dead worker's lease, once.
 */
export function isLeaseLive(
  record: Pick<JobRecord, 'lease'>,
  ageMs: number,
  durationMs: number = LEASE_DURATION_MS,
): boolean {
  return record.lease !== null && ageMs < durationMs;
}
