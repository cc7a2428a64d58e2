import type { JobSession } from '../../core/tasks/job-session.ts';
import { Interrupted, LeaseLost, TimeIsUp } from '../../core/tasks/job-session.ts';

/** How long requests that run are waited for once no more may begin. Their answers are paid for. */
export interface Grace {
  /** Of the six minutes that Cloud Tasks waits longer than a call works. */
  timeIsUpMs: number;
  /** Of the eight seconds in which the process has to end. */
  interruptedMs: number;
}

export const GRACE: Grace = { timeIsUpMs: 4 * 60_000, interruptedMs: 5_000 };

/**
 * Tells the requests of a job when to end. Work that is to stop for now waits for them, and keeps its job meanwhile,
 * which the session does no more; work that nobody wants ends at once.
 */
export class InFlight implements Disposable {
  readonly #session: JobSession;
  readonly #grace: Grace;
  readonly #renewMs: number;
  readonly #end = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #renewal: NodeJS.Timeout | undefined;

  constructor(session: JobSession, grace: Grace, renewMs: number) {
    this.#session = session;
    this.#grace = grace;
    this.#renewMs = renewMs;
    if (session.signal.aborted) this.#stop();
    else session.signal.addEventListener('abort', this.#stop, { once: true });
  }

  get signal(): AbortSignal {
    return this.#end.signal;
  }

  [Symbol.dispose](): void {
    this.#session.signal.removeEventListener('abort', this.#stop);
    clearTimeout(this.#timer);
    clearInterval(this.#renewal);
  }

  readonly #stop = (): void => {
    const reason: unknown = this.#session.signal.reason;
    const graceMs =
      reason instanceof TimeIsUp
        ? this.#grace.timeIsUpMs
        : reason instanceof Interrupted
          ? this.#grace.interruptedMs
          : 0;
    const end = () => this.#end.abort(reason);
    if (graceMs === 0) {
      end();
      return;
    }
    this.#timer = setTimeout(end, graceMs);
    this.#renewal = setInterval(() => void this.#renew(), this.#renewMs);
  };

  async #renew(): Promise<void> {
    try {
      await this.#session.update(() => {});
      if (this.#session.record.cancel_requested) this.#end.abort(new Error('the job was canceled'));
    } catch (error) {
      // Anything else passes, or the lease runs out and the next try says so.
      if (error instanceof LeaseLost) this.#end.abort(error);
    }
  }
}
