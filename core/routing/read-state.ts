import { setTimeout as sleep } from 'node:timers/promises';
import type { Backend } from '../backends.ts';
import { type DailySpend, readNote, readSpend } from '../costs/daily-spend.ts';
import { type Instance, isAlive, readInstances } from '../costs/instances.ts';
import type { Speed } from '../costs/platform-models.ts';
import type { Prices } from '../costs/prices.ts';
import type { Records } from '../records/records.ts';
import type { Candidate } from './estimate.ts';
import type { Demand } from './expect-company.ts';
import { platformOf } from './platform-of.ts';
import { type GivenJob, stateOf } from './platform-state.ts';

export interface RoutingState {
  candidates: Candidate[];
  demand: Demand;
}

/** So many of the last recordings say how often they come. */
export const DEMAND_LENGTH = 64;
const DAY_MS = 24 * 3_600_000;
/** Jobs wait for minutes while a choice is made in seconds: one that takes longer is made without. */
const PATIENCE_MS = 5_000;
/** Whoever has not ended a job by then has lost it. */
const STALE_SECONDS = 12 * 3_600;
/** Less says nothing of how fast a backend is. */
const TELLING_AUDIO_SECONDS = 600;

/**
 * What is known of the backends: from the signs of life of their instances, and from the notes of what the jobs of today
 * and yesterday cost, which name backend and length. They are few reads, however many jobs there are.
 * @param except the job that is to be sent somewhere
 */
export async function readRoutingState(
  records: Records,
  backends: readonly Backend[],
  { prices, except, nowMs }: { prices: Prices; except: string | undefined; nowMs: number },
): Promise<RoutingState> {
  const read = Promise.all([
    Promise.all([readSpend(records, nowMs), readSpend(records, nowMs - DAY_MS)]),
    Promise.all(backends.map((one) => (hasInstances(one) ? readInstances(records, one.name) : []))),
  ]);
  const tooLong = sleep(PATIENCE_MS, undefined, { ref: false }).then(() => {
    throw new Error(`the state of the backends could not be read within ${PATIENCE_MS / 1_000} s`);
  });
  const [days, instances] = await Promise.race([read, tooLong]);

  const jobs = notesOf(days, except, nowMs);
  const candidates = backends.map((backend, i) => {
    const own = instances[i] ?? [];
    const platform = platformOf(backend, { prices, measured: measuredSpeed(own) });
    const given = jobs.filter(
      (job) => job.backend === backend.name && !job.isFinal && job.secondsAgo < STALE_SECONDS,
    );
    return { name: backend.name, platform, state: stateOf(platform, given, own.filter(isAlive)) };
  });
  const demand = jobs
    .map(({ secondsAgo, audioSeconds }) => ({ agoSeconds: secondsAgo, audioSeconds }))
    .sort((one, other) => one.agoSeconds - other.agoSeconds)
    .slice(0, DEMAND_LENGTH);
  return { candidates, demand };
}

function notesOf(
  days: readonly DailySpend[],
  except: string | undefined,
  nowMs: number,
): (GivenJob & { backend: string; isFinal: boolean })[] {
  return days.flatMap(({ jobs }) =>
    [...jobs].flatMap(([name, note]) => {
      const { id, routedMs } = readNote(name, note);
      if (id === except) return [];
      const { backend, audio_seconds, is_final } = note;
      const secondsAgo = Math.max(0, (nowMs - routedMs) / 1_000);
      return [{ secondsAgo, audioSeconds: audio_seconds, backend, isFinal: is_final }];
    }),
  );
}

/**
 * All audio through all work, so that what each job takes besides is in it: of the jobs that were done from end to end.
 * Of one that runs, was broken off or went on from a checkpoint nobody knows how much of its audio the work was for.
 */
function measuredSpeed(instances: readonly Pick<Instance, 'jobs'>[]): Speed | undefined {
  const done = instances.flatMap(({ jobs }) => jobs).filter((one) => one.is_whole && one.audio_seconds > 0);
  const audio = done.reduce((sum, { audio_seconds }) => sum + audio_seconds, 0);
  const work = done.reduce((sum, { busy_seconds }) => sum + busy_seconds, 0);
  if (audio < TELLING_AUDIO_SECONDS || work <= 0) return undefined;
  return { realtimeFactor: audio / work, overheadSeconds: 0 };
}

/** Whether it has processes of ours, which give signs of life. */
function hasInstances({ kind }: Backend): boolean {
  return kind !== 'voxtral' && kind !== 'standalone';
}
