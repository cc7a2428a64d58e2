import type { JobRecord } from '../job.ts';

/** Of the services that are paid by the request. */
export interface Operations {
  /** Writes and lists of Cloud Storage; to delete is free. */
  storageClassA: number;
  /** Reads. */
  storageClassB: number;
  cloudTasks: number;
  /** Of Cloud Run services that are billed by the request: the API and cpu-service. */
  requests: number;
}

/**
 * What every job causes, however short: its media, marker, record, audio, playable copy, transcript, a note of its cost;
 * what looks for and removes leftovers; a client that looks at it ten times. A test holds it to what the services do.
 */
const PER_JOB: Operations = { storageClassA: 25, storageClassB: 25, cloudTasks: 6, requests: 14 };
/** While somebody works on it: stored batches, progress and renewals, and looks for a cancellation. */
const PER_BUSY_SECOND: Operations = {
  storageClassA: 0.4,
  storageClassB: 0.3,
  cloudTasks: 0,
  requests: 0,
};

/**
 * An estimate: nobody counts them. A job with many tries has more, which its busy seconds tell.
 */
export function estimateOperations({ usage }: Pick<JobRecord, 'usage'>): Operations {
  const seconds = usage.reduce((sum, { busy_seconds }) => sum + busy_seconds, 0);
  const of = (name: keyof Operations) => Math.round(PER_JOB[name] + seconds * PER_BUSY_SECOND[name]);
  return {
    storageClassA: of('storageClassA'),
    storageClassB: of('storageClassB'),
    cloudTasks: of('cloudTasks'),
    requests: of('requests'),
  };
}
