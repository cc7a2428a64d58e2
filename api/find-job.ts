import { JobRecord } from '../core/job.ts';
import { JOB_ID, type JobRef, jobKey } from '../core/objects.ts';
import { ServiceError } from '../core/problem.ts';
import type { Records } from '../core/records/records.ts';

/** Names the job of a request's path. Another owner's job cannot be named, so it is as absent as one that never was. */
export function jobRef(owner: string, id: unknown): JobRef {
  if (typeof id !== 'string' || !JOB_ID.test(id)) throw noSuchJob();
  return { owner, id };
}

/** @throws {ServiceError} `not-found` */
export async function findJob(records: Records, job: JobRef): Promise<JobRecord> {
  const stored = await records.read(jobKey(job));
  if (stored === undefined) throw noSuchJob();
  return JobRecord.parse(stored.value);
}

export function noSuchJob(): ServiceError {
  return new ServiceError('not-found', 'There is no such transcription. It may have been deleted.');
}
