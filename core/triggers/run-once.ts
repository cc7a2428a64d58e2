import type { Outcome } from '../tasks/outcome.ts';
import type { TaskPayload } from '../tasks/task.ts';
import { tryAgain } from '../tasks/try-again.ts';
import type { WorkerContext } from '../tasks/worker-context.ts';
import { within } from '../within.ts';
import type { TaskHandler } from './http-push.ts';

export interface RunOnceOptions {
  context: WorkerContext;
  task: TaskPayload;
  handle: TaskHandler;
}

/**
 * The trigger of a process that was started for one task: a Cloud Run job, a Vertex AI custom job. It does the task,
 * sees to what follows, since no queue does, and ends. The exit code says only whether that could be recorded: how the
 * job fares is said by its record, and a platform that tried the process again would do so behind our back.
 */
export class RunOnce {
  /** The exit code. */
  readonly finished: Promise<number>;
  readonly #options: RunOnceOptions;
  readonly #stopping = new AbortController();

  /** Begins at once. */
  constructor(options: RunOnceOptions) {
    this.#options = options;
    this.finished = this.#run();
  }

  /** Asks the task to give its work back, and waits for that, `timeoutMs` at most. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping.abort();
    await within(this.finished, timeoutMs);
  }

  async #run(): Promise<number> {
    const { context, task, handle } = this.#options;
    const log = context.log.child({ type: task.type, job: task.job?.id, run: task.run });
    const startMs = performance.now();
    try {
      const outcome: Outcome = await handle(task, { signal: this.#stopping.signal });
      const seconds = Math.round(performance.now() - startMs) / 1_000;
      log.info({ outcome: outcome.kind, seconds }, 'the task ended');
      if (outcome.kind === 'retry') await tryAgain(context, task, outcome.error);
      return 0;
    } catch (error) {
      // Nothing is lost: that this run has ended without an end of its job is seen by reconcile.
      log.error({ err: error }, 'the handler failed');
      return 1;
    }
  }
}
