import { noteSpend, spendOf } from '../costs/daily-spend.ts';
import type { JobRecord } from '../job.ts';
import type { Logger } from '../log.ts';
import type { Records } from '../records/records.ts';
import { forgetRoutingState } from './read-state.ts';

/** Notes what the job is expected to cost where it is sent. Without the note it is done all the same. */
export async function noteChoice(
  { records, log }: { records: Records; log: Logger },
  record: Pick<JobRecord, 'id' | 'routing' | 'duration_seconds' | 'attempts_before' | 'queued_at'>,
): Promise<void> {
  const { id, routing, duration_seconds: audioSeconds } = record;
  const estimate = routing.estimates?.find(({ backend }) => backend === routing.chosen);
  if (estimate === undefined || audioSeconds === null) return;
  const { backend, expected_usd: usd } = estimate;
  try {
    await noteSpend(records, spendOf(record), { usd, audio_seconds: audioSeconds, backend, is_final: false });
  } catch (error) {
    log.warn({ err: error, job: id }, 'what the job is expected to cost could not be noted');
  } finally {
    forgetRoutingState(records);
  }
}
