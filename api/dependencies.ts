import type { Backend } from '../core/backends.ts';
import type { Blobs } from '../core/blobs/blobs.ts';
import type { Prices } from '../core/costs/prices.ts';
import type { Logger } from '../core/log.ts';
import type { Queue } from '../core/queue/queue.ts';
import type { Readiness } from '../core/readiness.ts';
import type { Records } from '../core/records/records.ts';
import type { SourceLimits } from '../core/source-limits.ts';
import type { ApiKeys } from './http/api-keys.ts';

/** Everything the API is made of. Which adapters stand behind the ports is chosen by whoever starts it. */
export interface ApiDependencies extends SourceLimits {
  blobs: Blobs;
  records: Records;
  queue: Queue;
  log: Logger;
  /** Without any, whoever reaches the port is the owner `local`. */
  keys: ApiKeys;
  urlSigningKey: string;
  /** Without it, links begin with the address that the client used. */
  publicUrl: string | undefined;
  /** Where jobs can go, in order of preference. */
  backends: readonly Backend[];
  /** What things cost, where an operator has prices of his own; else as in the table. */
  prices?: Prices;
  /** What jobs may cost in a day; without it there is no limit. */
  dailySpendLimitUsd?: number | undefined;
  /** Whether a job that is submitted now can be worked on. */
  readiness(): Readiness | Promise<Readiness>;
  now(): number;
  /** Aborts when the service is asked to stop: pieces of uploads end where they are, and go on at the next instance. */
  stopping?: AbortSignal;
}
