import { z } from 'zod';
import { startsKey } from '../core/objects.ts';
import { RecordConflict, type Records } from '../core/records/records.ts';
import type { Runs } from '../core/runs/runs.ts';

/** Longer than a start takes to be listed; a start that died is in the way of others for so long. */
const RESERVATION_MS = 60_000;

const Starts = z.object({ starts: z.array(z.object({ run: z.string(), at_ms: z.number() })) });

/**
 * Whether there is room for one more run, which then is kept for it. An execution is listed only after it was started,
 * so whoever counted alone would let through all that are started at once: starts leave a note first, one by one.
 */
export async function reserveStart(
  records: Records,
  backend: string,
  run: string,
  { job, runs, limit }: { job: string; runs: Runs; limit: number },
): Promise<boolean> {
  const key = startsKey(backend);
  for (;;) {
    const stored = await records.read(key);
    const noted = stored === undefined ? [] : Starts.parse(stored.value).starts;
    const living = (await runs.living()).filter((one) => !isOf(job, one));
    const recent = noted.filter((one) => !isOf(job, one.run) && Date.now() - one.at_ms < RESERVATION_MS);
    let unlisted = recent.filter((one) => !living.includes(one.run));
    if (living.length + unlisted.length >= limit && unlisted.length > 0) {
      unlisted = await withoutEnded(unlisted, runs);
    }
    if (living.length + unlisted.length >= limit) return false;
    const value = { starts: [...unlisted, { run, at_ms: Date.now() }] };
    try {
      if (stored === undefined) await records.create(key, value);
      else await records.replace(key, value, stored.generation);
      return true;
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
    }
  }
}

/** The part before is about to end, and what came to nothing is in the way of nobody. */
function isOf(job: string, run: string | undefined): boolean {
  return run?.startsWith(`${job}-`) === true;
}

/** One that was started and has ended within the minute is in nobody's way. */
async function withoutEnded<T extends { run: string }>(unlisted: readonly T[], runs: Runs): Promise<T[]> {
  const found = await Promise.all(unlisted.map(({ run }) => runs.find(run)));
  return unlisted.filter((_, index) => !found[index]?.some(({ state }) => state === 'ended'));
}

/** It was not started. */
export async function releaseStart(records: Records, backend: string, run: string): Promise<void> {
  const key = startsKey(backend);
  for (;;) {
    const stored = await records.read(key);
    if (stored === undefined) return;
    const { starts } = Starts.parse(stored.value);
    const others = starts.filter((one) => one.run !== run);
    if (others.length === starts.length) return;
    try {
      await records.replace(key, { starts: others }, stored.generation);
      return;
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
    }
  }
}
