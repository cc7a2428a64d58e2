import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { JobRecord } from '../job.ts';
import { jobIdTime, spendKey, spendPrefix } from '../objects.ts';
import { RecordConflict, type Records } from '../records/records.ts';

const SpendNote = z.object({
  usd: z.number().min(0),
  audio_seconds: z.number().min(0),
  backend: z.string(),
  /** What it really cost; else what it was expected to. */
  is_final: z.boolean(),
  /** When it was sent to that backend, where that was not when it was submitted. */
  routed_at: z.iso.datetime().optional(),
});
export type SpendNote = z.infer<typeof SpendNote>;

const Shard = z.object({ jobs: z.record(z.string(), SpendNote) });

/** Cloud Storage takes one write a second of each. */
const SHARDS = 8;

export interface DailySpend {
  usd: number;
  /** By the names of the notes, which begin with the ids of the jobs: those say when each was submitted. */
  jobs: ReadonlyMap<string, SpendNote>;
}

/** A job, and which of its user's retries: each is noted by itself, with what it adds. */
export interface SpendOf {
  id: string;
  /** Another number for each retry; 0 before the first. */
  retry?: number;
  /** On whose day it is noted. */
  routedMs?: number;
}

/** The present round of a job. */
export function spendOf({
  id,
  attempts_before,
  queued_at,
}: Pick<JobRecord, 'id' | 'attempts_before' | 'queued_at'>): Required<SpendOf> {
  // Every retry raises it.
  return { id, retry: attempts_before.transcribe, routedMs: Date.parse(queued_at) };
}

/** Which job a note is of, and since when that has been where the note says. */
export function readNote(name: string, { routed_at }: SpendNote): { id: string; routedMs: number } {
  const id = name.replace(/-r\d+$/, '');
  return { id, routedMs: routed_at === undefined ? jobIdTime(id) : Date.parse(routed_at) };
}

/** The days are those of UTC. */
export function dayOf(nowMs: number): string {
  return new Date(nowMs).toISOString().slice(0, 10);
}

/** Nobody waits longer for a note: what is missing is noted by whoever comes next. */
const PATIENCE_MS = 2_000;
const PAUSE_MS = 50;

/**
 * Notes what a job is expected to cost, or did cost, with the day that it was sent to its backend on. There is one note of
 * each job and retry, however often it is noted: what is final takes the place of what was expected, and never the other
 * way round.
 * @throws when others have written the same record all the time
 */
export async function noteSpend(records: Records, of: string | SpendOf, given: SpendNote): Promise<void> {
  const { id, retry = 0, routedMs } = typeof of === 'string' ? { id: of } : of;
  const name = retry === 0 ? id : `${id}-r${retry}`;
  const note = routedMs === undefined ? given : { ...given, routed_at: new Date(routedMs).toISOString() };
  const key = spendKey(dayOf(routedMs ?? jobIdTime(id)), shardOf(id));
  const startMs = performance.now();
  for (let tries = 1; ; tries++) {
    const stored = await records.read(key);
    const jobs = jobsOf(stored?.value);
    const before = jobs[name];
    if (before !== undefined && !isNews(before, note)) return;
    const value = { jobs: { ...jobs, [name]: note } };
    try {
      if (stored === undefined) await records.create(key, value);
      else await records.replace(key, value, stored.generation);
      return;
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
      const waitMs = Math.random() * PAUSE_MS * Math.min(tries, 8);
      if (performance.now() - startMs + waitMs > PATIENCE_MS) throw error;
      await sleep(waitMs);
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

/** What a job has cost does not become less: then somebody late repeats what was so before the bill was shared. */
function isNews(before: SpendNote, note: SpendNote): boolean {
  if (before.is_final) return note.is_final && note.usd > before.usd;
  return !isDeepStrictEqual(before, note);
}
