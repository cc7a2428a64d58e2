import { z } from 'zod';
import { instancePrefix } from '../objects.ts';
import type { Records } from '../records/records.ts';

const time = z.iso.datetime();

/** What an instance did for one job, over all the job's calls of it. */
const InstanceJob = z.object({
  owner: z.string(),
  id: z.string(),
  busy_seconds: z.number().min(0),
  audio_seconds: z.number().min(0),
  /** It was begun and completed here, so that both together tell how fast the instance is. */
  is_whole: z.boolean().default(false),
});
export type InstanceJob = z.infer<typeof InstanceJob>;

/**
 * The sign of life of an instance: a process that works for a backend, from its start to its end. It is its only writer,
 * and whoever shares out what it cost removes it. One that never ends begins a new one now and then.
 */
export const Heartbeat = z.object({
  backend: z.string(),
  /** What it was started for: one task alone, or whatever comes. */
  trigger: z.enum(['push', 'once']),
  started_at: time,
  /** The last sign. All its times are by its own clock; how old it is, only the store can say. */
  beat_at: time,
  /** Since when it has had the job that it has; null while it has none. */
  busy_since: time.nullable(),
  /** Since when it has had none: that it has started, or ended one. */
  idle_since: time.nullable(),
  ended_at: time.nullable(),
  /** It is not the first of its instance: that was billed from its start, and this from where the one before ended. */
  is_continuation: z.boolean().default(false),
  jobs: z.array(InstanceJob),
});
export type Heartbeat = z.infer<typeof Heartbeat>;

/** Between two signs of life. */
export const BEAT_MS = 60_000;
/** An instance that has been silent for so long is gone. */
export const SILENCE_MS = 5 * BEAT_MS;

export interface Instance extends Heartbeat {
  id: string;
  /** Of its last sign of life, by the store's clock. */
  ageMs: number;
}

/** Whether it still takes jobs, or is about to: else it is only waiting for its bill. */
export function isAlive({ ended_at, ageMs }: Pick<Instance, 'ended_at' | 'ageMs'>): boolean {
  return ended_at === null && ageMs < SILENCE_MS;
}

const PAGE_SIZE = 100;

/** All that have shown themselves and whose bill is not shared out yet, the dead among them; or some, where that will do. */
export async function readInstances(
  records: Records,
  backend: string,
  { which = 'all' }: { which?: 'all' | 'some' } = {},
): Promise<Instance[]> {
  const prefix = instancePrefix(backend);
  const instances: Instance[] = [];
  for (let after = ''; ; ) {
    const page = await records.list({ prefix, limit: PAGE_SIZE, after });
    for (const { key, value, ageMs } of page.records) {
      const heartbeat = Heartbeat.safeParse(value);
      if (heartbeat.success) instances.push({ id: key.slice(prefix.length), ageMs, ...heartbeat.data });
    }
    after = page.records.at(-1)?.key ?? '';
    if (!page.hasMore || which === 'some') return instances;
  }
}
