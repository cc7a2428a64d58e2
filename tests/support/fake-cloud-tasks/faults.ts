import { mulberry32 } from '../../../core/mulberry32.ts';

/** What can go wrong on request. */
export const FAULTS = [
  /** An attempt is sent twice at once. */
  'duplicate-dispatch',
  /** An attempt is sent a while after it was due. */
  'delay-dispatch',
  /** A task is sent before others that have been due longer. */
  'reorder-dispatch',
  /** An attempt is broken off before its time is over. */
  'time-out-dispatch',
  /** The worker's success does not arrive: the task is sent again. */
  'lose-answer',
  /** CreateTask creates the task, then the connection breaks. */
  'lose-create-reply',
  /** CreateTask creates the task, then never answers. */
  'stall-create',
  /** CreateTask answers 503 and creates nothing. */
  'refuse-create',
  /** GetTask and DeleteTask answer 503 and do nothing. */
  'refuse-call',
] as const;

export type Fault = (typeof FAULTS)[number];

export interface FaultSettings {
  /** How likely each is, whenever it can happen: 0 to 1. */
  rates?: Partial<Record<Fault, number>>;
  /** So many of the next times it happens for certain. */
  next?: Partial<Record<Fault, number>>;
  /** The longest that a dispatch is delayed, or lasts before it is broken off; default 1000. */
  upToMs?: number;
}

/** Decides when a fault happens, and counts those that did. */
export class Faults {
  readonly counts: Record<Fault, number> = Object.fromEntries(FAULTS.map((fault) => [fault, 0])) as Record<
    Fault,
    number
  >;
  readonly #random: () => number;
  #rates: Partial<Record<Fault, number>> = {};
  #next: Partial<Record<Fault, number>> = {};
  #upToMs = 1_000;

  constructor(seed: number) {
    this.#random = mulberry32(seed);
  }

  /** What is left out stays as it is. */
  set({ rates, next, upToMs }: FaultSettings): void {
    if (rates !== undefined) this.#rates = rates;
    if (next !== undefined) this.#next = { ...this.#next, ...next };
    if (upToMs !== undefined) this.#upToMs = upToMs;
  }

  happens(fault: Fault): boolean {
    const certain = this.#next[fault] ?? 0;
    if (certain > 0) this.#next[fault] = certain - 1;
    else if (this.#random() >= (this.#rates[fault] ?? 0)) return false;
    this.counts[fault] += 1;
    return true;
  }

  durationMs(): number {
    return this.#random() * this.#upToMs;
  }

  pick<T>(items: readonly T[]): T | undefined {
    return items[Math.floor(this.#random() * items.length)];
  }
}
