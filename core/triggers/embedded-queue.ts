import type { Logger } from '../log.ts';
import { toServiceError } from '../problem.ts';
import { type Backoff, backoffMs } from '../queue/backoff.ts';
import type { Delivery, SqliteQueue } from '../queue/sqlite-queue.ts';
import type { Outcome } from '../tasks/outcome.ts';
import type { TaskPayload } from '../tasks/task.ts';

export interface EmbeddedQueueOptions {
  log: Logger;
  /** Tasks at a time. */
  concurrency: number;
  handle(payload: TaskPayload, context: { signal: AbortSignal }): Promise<Outcome>;
  backoff?: Backoff;
  /** A task whose handler's process died comes again after this. */
  visibilityMs?: number;
  /** How often to look for tasks that another process has enqueued: those are not heard. */
  pollMs?: number;
}

const BACKOFF: Backoff = { minMs: 1_000, maxMs: 60_000, maxDoublings: 5 };

/** The trigger of one machine: takes tasks from a SQLite queue and says what their outcomes mean there. */
export class EmbeddedQueue {
  readonly #queue: SqliteQueue;
  readonly #name: string;
  readonly #options: Required<EmbeddedQueueOptions>;
  readonly #stopping = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #renewals = new Set<NodeJS.Timeout>();
  #timer: NodeJS.Timeout | undefined;
  #deaf: (() => void) | undefined;

  constructor(queue: SqliteQueue, name: string, options: EmbeddedQueueOptions) {
    this.#queue = queue;
    this.#name = name;
    this.#options = { backoff: BACKOFF, visibilityMs: 60_000, pollMs: 5_000, ...options };
  }

  start(): void {
    // Not while `enqueue` runs: a handler that enqueues is not counted as running until its first await.
    this.#deaf = this.#queue.onWaiting(this.#name, () => queueMicrotask(() => this.#take()));
    this.#take();
  }

  /**
   * Takes no more, asks what runs to give its work back, and waits for that, `timeoutMs` at most. What still runs then
   * is no longer kept: its task comes again once its visibility has run out, or when `releaseAll` says so.
   */
  async stop(timeoutMs: number): Promise<void> {
    this.#deaf?.();
    clearTimeout(this.#timer);
    this.#stopping.abort();
    const timeout = Promise.withResolvers<void>();
    const timer = setTimeout(timeout.resolve, timeoutMs);
    await Promise.race([Promise.allSettled(this.#running), timeout.promise]);
    clearTimeout(timer);
    for (const renewal of this.#renewals) clearInterval(renewal);
  }

  /** Takes what is due while there is room, then sleeps until something is. */
  #take(): void {
    clearTimeout(this.#timer);
    if (this.#stopping.signal.aborted) return;
    try {
      while (this.#running.size < this.#options.concurrency) {
        const delivery = this.#queue.take(this.#name, this.#options.visibilityMs);
        if (delivery === undefined) break;
        const work: Promise<void> = this.#work(delivery).finally(() => {
          this.#running.delete(work);
          this.#take();
        });
        this.#running.add(work);
      }
      if (this.#running.size >= this.#options.concurrency) return;
      this.#timer = setTimeout(() => this.#take(), this.#sleepMs());
    } catch (error) {
      // The database is locked or full. The next look may find it better.
      this.#options.log.error({ err: error, queue: this.#name }, 'could not take a task');
      this.#timer = setTimeout(() => this.#take(), this.#options.pollMs);
    }
  }

  #sleepMs(): number {
    const { pollMs } = this.#options;
    const dueMs = this.#queue.nextDueAt(this.#name)?.getTime();
    return dueMs === undefined ? pollMs : Math.max(10, Math.min(pollMs, dueMs - Date.now()));
  }

  async #work({ task, receipt, deliveries }: Delivery): Promise<void> {
    const { visibilityMs, log } = this.#options;
    const renewal = setInterval(() => {
      try {
        this.#queue.extend(receipt, visibilityMs);
      } catch (error) {
        log.warn({ err: error, task: task.name }, 'could not keep the task; trying again');
      }
    }, visibilityMs / 3);
    this.#renewals.add(renewal);
    try {
      const outcome = await this.#handle(task.payload);
      if (outcome.kind === 'retry') {
        // Whoever was stopped did nothing wrong: the next to look may take the task at once.
        const isStopping = this.#stopping.signal.aborted;
        this.#queue.putBack(receipt, isStopping ? 0 : backoffMs(deliveries, this.#options.backoff));
      } else {
        this.#queue.acknowledge(receipt);
      }
    } catch (error) {
      // The outcome could not be stored: when its visibility ends the task comes again, which is harmless.
      log.error({ err: error, task: task.name }, 'could not settle the task');
    } finally {
      clearInterval(renewal);
      this.#renewals.delete(renewal);
    }
  }

  async #handle(payload: TaskPayload): Promise<Outcome> {
    try {
      return await this.#options.handle(payload, { signal: this.#stopping.signal });
    } catch (error) {
      this.#options.log.error({ err: error, type: payload.type }, 'the handler failed');
      return { kind: 'retry', error: toServiceError(error) };
    }
  }
}
