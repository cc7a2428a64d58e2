import { setTimeout as sleep } from 'node:timers/promises';
import { type Backend, isJobBackend } from '../backends.ts';
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

/** From when on recordings count: those of today and yesterday, in UTC. */
export function demandSinceMs(nowMs: number): number {
  return (Math.floor(nowMs / DAY_MS) - 1) * DAY_MS;
}

/** Jobs wait for minutes while a choice is made in seconds: one that takes longer is made without. */
const PATIENCE_MS = 5_000;
/** Whoever has not ended a job by then has lost it. */
const STALE_SECONDS = 12 * 3_600;
/** Less says nothing of how fast a backend is. */
const TELLING_AUDIO_SECONDS = 600;

/**
 * What is known of the backends: from the signs of life of their instances, and from the notes of what the jobs of today
 * and yesterday cost, which name backend and length. They are few reads, however many jobs there are.
 * @param models which model would do the job, by the name of the backend
 * @param except the job that is to be sent somewhere
 * @param maxAgeMs how old what is known may be: many jobs that wait ask the same at the same time
 */
export async function readRoutingState(
  records: Records,
  backends: readonly Backend[],
  {
    prices,
    models = new Map(),
    except,
    nowMs,
    maxAgeMs = 0,
  }: {
    prices: Prices;
    models?: ReadonlyMap<string, string | null>;
    except: string | undefined;
    nowMs: number;
    maxAgeMs?: number;
  },
): Promise<RoutingState> {
  const memory = memoryOf(records, maxAgeMs);
  const read = Promise.all([
    memory('spend', () => Promise.all([readSpend(records, nowMs), readSpend(records, nowMs - DAY_MS)])),
    Promise.all(
      backends.filter(hasInstances).map(async (backend) => {
        const { name } = backend;
        // Runs leave a sign each, for an hour: there may be hundreds, and they only tell how fast they were.
        const which = isJobBackend(backend) ? 'some' : 'all';
        const { value, ageMs } = await memory(`instances/${name}`, () =>
          readInstances(records, name, { which }),
        );
        return [name, value.map((one) => ({ ...one, ageMs: one.ageMs + ageMs }))] as const;
      }),
    ),
  ]);
  const tooLong = sleep(PATIENCE_MS, undefined, { ref: false }).then(() => {
    throw new Error(`the state of the backends could not be read within ${PATIENCE_MS / 1_000} s`);
  });
  const [days, found] = await Promise.race([read, tooLong]);

  const jobs = notesOf(days.value, except, nowMs);
  const instances = new Map<string, readonly Instance[]>(found);
  const candidates = backends.map((backend) => {
    const own = instances.get(backend.name) ?? [];
    const model = models.get(backend.name) ?? null;
    const platform = platformOf(backend, { prices, measured: measuredSpeed(own), model });
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

/** What was read last. */
const memories = new WeakMap<Records, Map<string, { atMs: number; value: Promise<unknown> }>>();

function memoryOf(records: Records, maxAgeMs: number) {
  const memory = memories.get(records) ?? new Map();
  memories.set(records, memory);
  return async <T>(what: string, read: () => Promise<T>): Promise<{ value: T; ageMs: number }> => {
    const nowMs = performance.now();
    let known: { atMs: number; value: Promise<T> } | undefined = memory.get(what);
    if (known === undefined || nowMs - known.atMs >= maxAgeMs) {
      const fresh = { atMs: nowMs, value: read() };
      const forget = () => {
        if (memory.get(what) === fresh) memory.delete(what);
      };
      fresh.value.catch(forget);
      memory.set(what, fresh);
      known = fresh;
    }
    return { value: await known.value, ageMs: nowMs - known.atMs };
  };
}

/** Something has changed that the next choice is to know. */
export function forgetRoutingState(records: Records): void {
  memories.delete(records);
}

function notesOf(
  days: readonly DailySpend[],
  except: string | undefined,
  nowMs: number,
): (GivenJob & { backend: string; isFinal: boolean })[] {
  return days.flatMap(({ jobs }) =>
    [...jobs].flatMap(([name, note]) => {
      const { id, routedMs } = readNote(name, note);
      const { backend, audio_seconds, is_final } = note;
      // One that failed before its length was known says nothing of those that come.
      if (id === except || audio_seconds === 0) return [];
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
