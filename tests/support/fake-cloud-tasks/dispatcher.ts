import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '../../../core/queue/backoff.ts';
import { type Delivery, deliver } from './deliver.ts';
import type { Faults } from './faults.ts';
import type { FrontEnd } from './front-end.ts';
import type { Queue } from './queue.ts';
import type { Store } from './store.ts';
import { dispatchHeaders, shortName, type Task } from './task.ts';

/** What a test wants to know about a dispatch. */
export interface Attempt {
  queue: string;
  task: string;
  /** Counted from 0, as in X-CloudTasks-TaskRetryCount. */
  retry: number;
  startMs: number;
  endMs: number;
  /** The worker's, or 504 after the deadline, 503 when it could not be reached. */
  status: number;
}

export interface DispatcherOptions {
  store: Store;
  faults: Faults;
  frontEnd: FrontEnd;
  /** What waits between tries, and deadlines, are multiplied with. */
  scale: { retry: number; deadline: number };
  onAttempt(attempt: Attempt): void;
}

/** A sleep that is longer than a timer can be is taken in pieces. */
const LONGEST_SLEEP_MS = 3_600_000;
/**
 * Google says only that 429 and 503 make the queue back off further than configured. These numbers are made up:
 * from one second, doubling while it goes on, and over with the first success.
 */
const SLOW_DOWN_MS = 1_000;
const SLOWEST_MS = 60_000;

/** Sends the tasks of one queue to their workers. */
export class Dispatcher {
  readonly #queueName: string;
  readonly #options: DispatcherOptions;
  readonly #running = new Set<Task>();
  readonly #stopping = new AbortController();
  readonly #work = new Set<Promise<unknown>>();
  #timer: NodeJS.Timeout | undefined;
  #tokens: number;
  #refilledMs = performance.now();
  #slowDownMs = 0;
  #slowUntilMs = 0;

  constructor(queueName: string, options: DispatcherOptions) {
    this.#queueName = queueName;
    this.#options = options;
    this.#tokens = this.#queue.rateLimits.maxBurstSize;
  }

  /** Looks again: a task or the queue has changed. */
  wake(): void {
    clearTimeout(this.#timer);
    if (this.#stopping.signal.aborted) return;
    const waitMs = this.#dispatchWhatMay();
    if (waitMs !== undefined) {
      this.#timer = setTimeout(() => this.wake(), Math.min(Math.ceil(waitMs), LONGEST_SLEEP_MS));
    }
  }

  /** Breaks off what runs. */
  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#stopping.abort();
    await Promise.allSettled(this.#work);
  }

  get #queue(): Queue {
    const queue = this.#options.store.queues.get(this.#queueName);
    if (queue === undefined) throw new Error(`there is no queue ${this.#queueName}`);
    return queue;
  }

  /** @returns how long until there may be more to do; nothing when something else will wake it */
  #dispatchWhatMay(): number | undefined {
    const { state, rateLimits, deletedMs } = this.#queue;
    if (state === 'PAUSED' || deletedMs !== null) return undefined;
    for (;;) {
      if (this.#running.size >= rateLimits.maxConcurrentDispatches) return undefined;
      const nowMs = Date.now();
      if (nowMs < this.#slowUntilMs) return this.#slowUntilMs - nowMs;
      const waiting = this.#waiting();
      const due = waiting.filter(({ dueMs }) => dueMs <= nowMs);
      const [first] = due;
      if (first === undefined) {
        const dueMs = waiting[0]?.dueMs;
        return dueMs === undefined ? undefined : dueMs - nowMs;
      }
      const waitMs = this.#takeToken(rateLimits);
      if (waitMs > 0) return waitMs;
      const { faults } = this.#options;
      const task = due.length > 1 && faults.happens('reorder-dispatch') ? faults.pick(due.slice(1)) : first;
      this.#dispatch(task ?? first);
    }
  }

  #waiting(): Task[] {
    return [...this.#options.store.tasks.values()]
      .filter((task) => task.queue === this.#queueName && !this.#running.has(task))
      .sort((a, b) => a.dueMs - b.dueMs);
  }

  /** @returns 0 when there was one, else how long until there is */
  #takeToken({ maxBurstSize, maxDispatchesPerSecond }: Queue['rateLimits']): number {
    const nowMs = performance.now();
    const refill = ((nowMs - this.#refilledMs) / 1_000) * maxDispatchesPerSecond;
    this.#tokens = Math.min(maxBurstSize, this.#tokens + refill);
    this.#refilledMs = nowMs;
    if (this.#tokens < 1) return Math.max(1, ((1 - this.#tokens) / maxDispatchesPerSecond) * 1_000);
    this.#tokens -= 1;
    return 0;
  }

  #dispatch(task: Task): void {
    this.#running.add(task);
    const work = this.#attempt(task).finally(() => {
      this.#running.delete(task);
      this.#work.delete(work);
      this.wake();
    });
    this.#work.add(work);
  }

  async #attempt(task: Task): Promise<void> {
    const { store, faults, onAttempt } = this.#options;
    if (faults.happens('delay-dispatch')) {
      await sleep(faults.durationMs(), undefined, { signal: this.#stopping.signal }).catch(() => {});
    }
    if (this.#stopping.signal.aborted || !store.tasks.has(task.name)) return;
    const headers = this.#headers(task);
    const startMs = Date.now();
    const retry = task.attempts;
    task.attempts += 1;
    task.firstAttemptMs ??= startMs;
    task.lastAttempt = { scheduleMs: task.scheduleMs, dispatchMs: startMs, responseMs: null, status: null };
    store.saveTask(task);

    if (faults.happens('duplicate-dispatch')) {
      const twin = this.#send(task, headers).finally(() => this.#work.delete(twin));
      this.#work.add(twin);
    }
    const delivery = await this.#send(task, headers);
    if (this.#stopping.signal.aborted) return;
    const status = statusOf(delivery);
    onAttempt({
      queue: shortName(task.queue),
      task: shortName(task.name),
      retry,
      startMs,
      endMs: Date.now(),
      status,
    });
    this.#slowDown(delivery);
    // It may have been deleted, and then nothing more happens to it.
    if (store.tasks.get(task.name) === task) this.#conclude(task, delivery, status);
  }

  #headers(task: Task): Record<string, string> {
    const { oidc, headers } = task.request;
    const withoutToken = { ...headers, ...dispatchHeaders(task) };
    if (oidc === null) return withoutToken;
    const others = Object.entries(withoutToken).filter(([name]) => name.toLowerCase() !== 'authorization');
    return {
      ...Object.fromEntries(others),
      Authorization: `Bearer ${this.#options.store.issuer.issue(oidc)}`,
    };
  }

  async #send(task: Task, headers: Record<string, string>): Promise<Delivery> {
    const { faults, frontEnd, scale } = this.#options;
    const route = await frontEnd.route(task.request.url, headers, this.#stopping.signal);
    if (route === undefined) return { kind: 'response', status: 429, retryAfterMs: null };
    const { method, bodyBase64 } = task.request;
    const body = bodyBase64 === null ? undefined : Buffer.from(bodyBase64, 'base64');
    const deadlineMs = task.deadlineMs * scale.deadline;
    const cutMs = faults.happens('time-out-dispatch') ? faults.durationMs() : Infinity;
    const delivery = await deliver(
      { url: route.url, method, headers: route.headers, body },
      { deadlineMs: Math.min(deadlineMs, cutMs), signal: this.#stopping.signal },
    );
    route.release();
    const isLost = isSuccess(delivery) && faults.happens('lose-answer');
    return isLost ? { kind: 'deadline' } : delivery;
  }

  #conclude(task: Task, delivery: Delivery, status: number): void {
    const { store, scale } = this.#options;
    const nowMs = Date.now();
    if (delivery.kind === 'response') {
      task.responses += 1;
      if (task.lastAttempt !== null) Object.assign(task.lastAttempt, { responseMs: nowMs, status });
      if (status < 500) task.executions += 1;
    }
    if (isSuccess(delivery) || this.#isSpent(task, nowMs)) {
      store.endTask(task, nowMs);
      return;
    }
    const { minBackoffMs, maxBackoffMs, maxDoublings } = this.#queue.retryConfig;
    const configuredMs = backoffMs(task.attempts, { minMs: minBackoffMs, maxMs: maxBackoffMs, maxDoublings });
    const askedMs = delivery.kind === 'response' && isOverload(status) ? (delivery.retryAfterMs ?? 0) : 0;
    task.previousResponse = status;
    task.dueMs = nowMs + Math.max(configuredMs, askedMs) * scale.retry;
    task.scheduleMs = task.dueMs;
    store.saveTask(task);
  }

  /** Of the limits that are set, every one must be exceeded. */
  #isSpent(task: Task, nowMs: number): boolean {
    const { maxAttempts, maxRetryDurationMs } = this.#queue.retryConfig;
    const isAttemptsOver = maxAttempts === -1 || task.attempts >= maxAttempts;
    const ageMs = nowMs - (task.firstAttemptMs ?? nowMs);
    const isTimeOver = maxRetryDurationMs === 0 || ageMs >= maxRetryDurationMs * this.#options.scale.retry;
    return isAttemptsOver && isTimeOver && !(maxAttempts === -1 && maxRetryDurationMs === 0);
  }

  /** The whole queue waits, not only the task that met it. */
  #slowDown(delivery: Delivery): void {
    if (isSuccess(delivery)) this.#slowDownMs = 0;
    if (delivery.kind !== 'response' || !isOverload(delivery.status)) return;
    this.#slowDownMs = Math.min(SLOWEST_MS, Math.max(SLOW_DOWN_MS, this.#slowDownMs * 2));
    const waitMs = Math.max(this.#slowDownMs, delivery.retryAfterMs ?? 0) * this.#options.scale.retry;
    this.#slowUntilMs = Math.max(this.#slowUntilMs, Date.now() + waitMs);
  }
}

function isSuccess(delivery: Delivery): boolean {
  return delivery.kind === 'response' && delivery.status >= 200 && delivery.status < 300;
}

const isOverload = (status: number): boolean => status === 429 || status === 503;

/** What stands in X-CloudTasks-TaskPreviousResponse: 504 after a deadline was recorded, 503 is an inference from it. */
function statusOf(delivery: Delivery): number {
  if (delivery.kind === 'response') return delivery.status;
  return delivery.kind === 'deadline' ? 504 : 503;
}
