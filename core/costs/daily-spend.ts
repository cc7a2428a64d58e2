import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { jobIdTime, spendKey, spendPrefix } from '../objects.ts';
import { RecordConflict, type Records } from '../records/records.ts';

const SpendNote = z.object({
  usd: z.number().min(0),
  audio_seconds: z.number().min(0),
  backend: z.string(),
  /** What it really cost; else what it was expected to. */
  is_final: z.boolean(),
});
export type SpendNote = z.infer<typeof SpendNote>;

const Shard = z.object({ jobs: z.record(z.string(), SpendNote) });

/** Cloud Storage takes one write a second of each. */
const SHARDS = 8;

export interface DailySpend {
  usd: number;
  /** By the ids of the jobs, which say when each was submitted: `jobIdTime`. */
  jobs: ReadonlyMap<string, SpendNote>;
}

/** The days are those of UTC. */
export function dayOf(nowMs: number): string {
  return new Date(nowMs).toISOString().slice(0, 10);
}

/**
 * Notes what a job is expected to cost, or did cost, with the day that it was submitted on. There is one note of each
 * job, however often it is noted: what is final takes the place of what was expected, and never the other way round.
 */
export async function noteSpend(records: Records, jobId: string, note: SpendNote): Promise<void> {
  const key = spendKey(dayOf(jobIdTime(jobId)), shardOf(jobId));
  for (;;) {
    const stored = await records.read(key);
    const jobs = jobsOf(stored?.value);
    const before = jobs[jobId];
    if (before !== undefined && !isNews(before, note)) return;
    const value = { jobs: { ...jobs, [jobId]: note } };
    try {
      if (stored === undefined) await records.create(key, value);
      else await records.replace(key, value, stored.generation);
      return;
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
    }
  }
}

/** What is noted of the day that `nowMs` lies in. */
export async function readSpend(records: Records, nowMs: number): Promise<DailySpend> {
  const { records: shards } = await records.list({ prefix: spendPrefix(dayOf(nowMs)), limit: SHARDS });
  const jobs = new Map(shards.flatMap(({ value }) => Object.entries(jobsOf(value))));
  return { usd: [...jobs.values()].reduce((sum, { usd }) => sum + usd, 0), jobs };
}

/** What nobody can read is as good as nothing: it must not stand in the way of jobs. */
function jobsOf(value: unknown): Record<string, SpendNote> {
  return Shard.safeParse(value).data?.jobs ?? {};
}

/** By the end of its id, which is random. */
function shardOf(jobId: string): number {
  return jobId.charCodeAt(jobId.length - 1) % SHARDS;
}

/** What a job has cost does not become less: then somebody late repeats what was so before its user's retry. */
function isNews(before: SpendNote, note: SpendNote): boolean {
  if (before.is_final) return note.is_final && note.usd > before.usd;
  return !isDeepStrictEqual(before, note);
}
