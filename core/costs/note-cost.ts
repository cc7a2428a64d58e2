import type { Backend } from '../backends.ts';
import type { Cost, JobRecord } from '../job.ts';
import type { Logger } from '../log.ts';
import type { Records } from '../records/records.ts';
import { isInTheCloud } from './backend-rate.ts';
import { noteSpend, spendOf } from './daily-spend.ts';

/**
 * Notes what a job has cost since it was submitted, or its user last had it tried again, in place of what that was
 * expected to cost: its share of the instances' bills once it is known, what it added until then.
 */
export async function noteCost(
  { records, backends }: { records: Records; backends: readonly Backend[] },
  record: JobRecord,
  cost: Cost,
): Promise<void> {
  const { backend, cost_before: before, routing, usage } = record;
  // Whose rent is paid anyway spends nothing, and its share comes day by day.
  const isRented = usage.some((one) =>
    backends.some(({ name, kind }) => name === one.backend && kind === 'server'),
  );
  const usd =
    cost.attributed_usd === null || isRented
      ? cost.marginal_usd - before.marginal_usd
      : cost.attributed_usd - (before.attributed_usd ?? before.marginal_usd);
  const isExpected = (routing.estimates ?? []).length > 0;
  // On one machine of one's own nothing is spent, and whom jobs arrive for is nobody's question.
  if (!isInTheCloud(backends) && usd <= 0 && !isExpected) return;
  const note = {
    usd: Math.max(0, usd),
    audio_seconds: record.duration_seconds ?? 0,
    backend,
    is_final: true,
  };
  await noteSpend(records, spendOf(record), note);
}

/** The same where the job goes on, or has ended, whatever becomes of the note. @returns whether it was written */
export async function tryNoteCost(
  context: Parameters<typeof noteCost>[0] & { log: Logger },
  record: JobRecord,
  cost: Cost,
  { timeoutMs = 2_000 }: { timeoutMs?: number } = {},
): Promise<boolean> {
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => timeout.reject(new Error('the store takes too long for the note')),
    timeoutMs,
  );
  try {
    await Promise.race([noteCost(context, record, cost), timeout.promise]);
    return true;
  } catch (error) {
    context.log.warn({ err: error, job: record.id }, 'the cost of the job could not be noted');
    return false;
  } finally {
    clearTimeout(timer);
  }
}
