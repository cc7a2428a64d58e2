import { randomUUID } from 'node:crypto';
import type { Backend } from '../backends.ts';
import type { Blobs } from '../blobs/blobs.ts';
import type { Prices } from '../costs/prices.ts';
import type { WorkingInstance } from '../costs/session-meter.ts';
import type { Logger } from '../log.ts';
import type { Queue } from '../queue/queue.ts';
import type { Records } from '../records/records.ts';
import type { Runs } from '../runs/runs.ts';
import { LEASE_DURATION_MS, LEASE_RENEW_MS } from './lease.ts';

/** What every handler gets, on every platform. */
export interface WorkerContext {
  blobs: Blobs;
  records: Records;
  queue: Queue;
  log: Logger;
  /** Where jobs can go, in order of preference. */
  backends: readonly Backend[];
  /** Of the backends that are started for each job, by name; only in the service that starts them. */
  runs?: ReadonlyMap<string, Runs>;
  /** What things cost, where an operator has prices of his own; else as in the table. */
  prices?: Prices;
  /** What jobs may cost in a day, where ingest lets them through. */
  dailySpendLimitUsd?: number | undefined;
  /** The time of day, where a test does not leave it to the clock. */
  now?: () => number;
  /** What this process is, where it is billed by its time: it is told of every job that has it. */
  instance?: WorkingInstance;
  /** Whether jobs are transcribed on a GPU here. */
  hasGpu?: boolean;
  /** Names this process in leases. */
  holder: string;
  timing: Timing;
  /** How long one call may work before it must leave a continuation. Without it, as long as it takes. */
  callLimitMs?: number;
  /**
   * Whether the process with that name is known to be gone, so that its lease need not run out.
   * Only who owns the whole store alone can know; the others leave it out.
   */
  isHolderGone?: (holder: string) => boolean;
}

/** A worker that knows no more of its store than that others work on it too. */
export function workerContext(
  service: string,
  {
    blobs,
    records,
    queue,
    log,
    backends,
    callLimitMs,
    leaseMs,
  }: Pick<WorkerContext, 'blobs' | 'records' | 'queue' | 'log' | 'backends'> & {
    callLimitMs: number;
    leaseMs: number;
  },
): WorkerContext {
  const holder = `${service}-${randomUUID()}`;
  const timing = { ...CLOUD_TIMING, leaseMs, renewMs: leaseMs / 3 };
  return { blobs, records, queue, log, backends, holder, timing, callLimitMs };
}

export interface Timing {
  leaseMs: number;
  renewMs: number;
  /** Least time between two writes of progress; the record is looked at for a cancellation as often. */
  progressMs: number;
}

/** Cloud Storage takes one write a second per object. */
export const CLOUD_TIMING: Timing = {
  leaseMs: LEASE_DURATION_MS,
  renewMs: LEASE_RENEW_MS,
  progressMs: 3_000,
};

/** SQLite has no such limit, and somebody is looking at the progress bar. */
export const LOCAL_TIMING: Timing = { ...CLOUD_TIMING, progressMs: 500 };
