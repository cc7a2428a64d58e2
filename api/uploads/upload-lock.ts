import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Logger } from '../../core/log.ts';
import { UPLOAD_LOCK_PREFIX, type UploadRef, uploadLockKey } from '../../core/objects.ts';
import { ServiceError } from '../../core/problem.ts';
import { RecordConflict, type Records } from '../../core/records/records.ts';

export interface LockTiming {
  /** A holder that has not renewed for so long, by the store's clock, is dead. */
  leaseMs: number;
  renewMs: number;
  /** How often a holder looks whether somebody waits, and a waiter whether the lock is free. */
  pollMs: number;
  /** How long a waiter waits: longer than a lease, so that a dead holder's lock is had within one call. */
  patienceMs: number;
}

export const LOCK_TIMING: LockTiming = { leaseMs: 10_000, renewMs: 3_000, pollMs: 500, patienceMs: 20_000 };

/** Times of Cloud Storage's answers are whole seconds: a holder gives up well before others may think it dead. */
const SAFE_LEASE = 0.7;
const FIRST_WAIT_MS = 10;

const LockValue = z.object({
  holder: z.string().nullable(),
  is_wanted: z.boolean(),
  /** How long the holder had not renewed when a waiter marked it: the mark must not make a dead one younger. */
  silent_ms: z.number().default(0),
});
type LockValue = z.infer<typeof LockValue>;

export interface HeldLock {
  /** Lets the next one have it. Never fails: a lock that could not be freed is over with its lease. */
  release(): Promise<void>;
  /** Instead, when the upload is gone and nobody will want it again. */
  discard(): Promise<void>;
}

interface Waiting {
  /** Gives up waiting. */
  signal: AbortSignal;
  /** Somebody else waits for the lock: finish soon. */
  onWanted(): void;
  /** The lock may be somebody else's by now: stop at once. */
  onLost(): void;
}

/** For the sole owner of a store, at its start: whoever held a lock is gone, and nobody need wait for its lease. */
export async function forgetUploadLocks(records: Records): Promise<void> {
  for (;;) {
    const page = await records.list({ prefix: UPLOAD_LOCK_PREFIX, limit: 100 });
    for (const { key } of page.records) await records.delete(key);
    if (!page.hasMore) return;
  }
}

/**
 * One lock per upload, held across all instances of the API by a record. A connection that broke is noticed late, so
 * whoever comes second is usually the same client on a new one: it asks the holder to let go, and gets the lock.
 */
export class UploadLocks {
  readonly #records: Records;
  readonly #log: Logger;
  readonly #timing: LockTiming;
  /** Those of this process are asked without a detour through the store. */
  readonly #held = new Map<string, () => void>();

  constructor(records: Records, log: Logger, timing: LockTiming = LOCK_TIMING) {
    this.#records = records;
    this.#log = log;
    this.#timing = timing;
  }

  /** @throws {ServiceError} `upload-locked`, or what `signal` was aborted with */
  async acquire(upload: UploadRef, waiting: Waiting): Promise<HeldLock> {
    const key = uploadLockKey(upload);
    const { pollMs, patienceMs } = this.#timing;
    const giveUpMs = performance.now() + patienceMs;
    const holder = randomUUID();
    for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(pollMs, 2 * waitMs)) {
      waiting.signal.throwIfAborted();
      const takenMs = performance.now();
      const generation = await this.#take(key, holder);
      if (generation !== undefined) return this.#hold(key, { holder, generation, takenMs }, waiting);
      this.#held.get(key)?.();
      if (performance.now() > giveUpMs) {
        throw new ServiceError('upload-locked', 'Another request is still adding to this upload. Try again.');
      }
      await sleep(waitMs, undefined, { signal: waiting.signal }).catch(() => {});
    }
  }

  /** @returns the generation of the record that makes the lock ours */
  async #take(key: string, holder: string): Promise<string | undefined> {
    const ours: LockValue = { holder, is_wanted: false, silent_ms: 0 };
    try {
      const stored = await this.#records.read(key);
      if (stored === undefined) return await this.#records.create(key, ours);
      const theirs = LockValue.parse(stored.value);
      const silentMs = theirs.silent_ms + stored.ageMs;
      if (theirs.holder === null || silentMs > this.#timing.leaseMs) {
        return await this.#records.replace(key, ours, stored.generation);
      }
      if (!theirs.is_wanted && !this.#held.has(key)) {
        const marked: LockValue = { ...theirs, is_wanted: true, silent_ms: silentMs };
        await this.#records.replace(key, marked, stored.generation);
      }
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
    }
    return undefined;
  }

  #hold(
    key: string,
    { holder, generation, takenMs }: { holder: string; generation: string; takenMs: number },
    { onWanted, onLost }: Waiting,
  ): HeldLock {
    const { leaseMs, renewMs, pollMs } = this.#timing;
    let renewedMs = takenMs;
    let isOver = false;
    let isLooking = false;

    const lose = () => {
      if (isOver) return;
      isOver = true;
      onLost();
    };
    const look = async () => {
      const stored = await this.#records.read(key);
      const value = LockValue.safeParse(stored?.value).data;
      if (stored === undefined || value?.holder !== holder) {
        lose();
        return;
      }
      generation = stored.generation;
      if (value.is_wanted) onWanted();
      const startedMs = performance.now();
      if (startedMs - renewedMs < renewMs) return;
      generation = await this.#records.replace(key, { ...value, silent_ms: 0 }, stored.generation);
      renewedMs = startedMs;
    };
    const timer = setInterval(async () => {
      if (performance.now() - renewedMs > SAFE_LEASE * leaseMs) lose();
      if (isOver) clearInterval(timer);
      if (isOver || isLooking) return;
      isLooking = true;
      try {
        await look();
      } catch (error) {
        // After a conflict the next look sees who has marked it.
        if (!(error instanceof RecordConflict)) this.#log.warn({ err: error }, 'a lock was not renewed');
      }
      isLooking = false;
    }, pollMs);
    this.#held.set(key, onWanted);

    const end = async (write: () => Promise<unknown>) => {
      clearInterval(timer);
      if (this.#held.get(key) === onWanted) this.#held.delete(key);
      if (isOver) return;
      isOver = true;
      try {
        await write();
      } catch (error) {
        this.#log.warn({ err: error }, 'a lock was not freed');
      }
    };
    return {
      release: () => end(() => this.#free(key, holder, generation)),
      discard: () => end(() => this.#records.delete(key)),
    };
  }

  /** By its generation and not by deleting it: a request that arrives late must not free the next one's lock. */
  async #free(key: string, holder: string, generation: string): Promise<void> {
    const free: LockValue = { holder: null, is_wanted: false, silent_ms: 0 };
    for (let current: string | undefined = generation; current !== undefined; ) {
      try {
        await this.#records.replace(key, free, current);
        return;
      } catch (error) {
        if (!(error instanceof RecordConflict)) throw error;
      }
      const stored = await this.#records.read(key);
      const isOurs = LockValue.safeParse(stored?.value).data?.holder === holder;
      current = isOurs ? stored?.generation : undefined;
    }
  }
}
