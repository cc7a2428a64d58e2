import type { Backend } from '../backends.ts';
import { ServiceError } from '../problem.ts';
import type { Records } from '../records/records.ts';
import { costsByTheJob } from './backend-rate.ts';
import { readSpend } from './daily-spend.ts';

const DAY_MS = 24 * 3_600_000;

export interface SpendLimit {
  records: Records;
  backends: readonly Backend[];
  /** Without it there is no limit. */
  dailySpendLimitUsd?: number | undefined;
}

/**
 * Refuses what would cost something once the jobs of today have cost what they may. What is expected of those that have
 * not ended counts too.
 * @param backend the name of that which the job would go to
 * @throws {ServiceError} `spend-limit-reached`
 */
export async function checkSpendLimit(about: SpendLimit, backend: string, nowMs: number): Promise<void> {
  if (await isWithinSpendLimit(about, backend, nowMs)) return;
  throw new ServiceError(
    'spend-limit-reached',
    `The jobs of today have cost what this service may spend in a day, $${about.dailySpendLimitUsd}. Try again after midnight UTC, or ask the operator for a higher limit.`,
    { extensions: { retry_after_seconds: Math.ceil((DAY_MS - (nowMs % DAY_MS)) / 1_000) } },
  );
}

/** Whether it would let the job through. */
export async function isWithinSpendLimit(
  { records, backends, dailySpendLimitUsd: limit }: SpendLimit,
  backend: string,
  nowMs: number,
): Promise<boolean> {
  if (limit === undefined) return true;
  const chosen = backends.find(({ name }) => name === backend);
  if (chosen !== undefined && !costsByTheJob(chosen)) return true;
  return (await readSpend(records, nowMs)).usd < limit;
}
