import type { ServiceError } from '../problem.ts';

/** How a handler leaves its task. Triggers translate: HTTP status, exit code, or what the embedded queue does. */
export type Outcome =
  /** Finished, or there was nothing to do. */
  | { kind: 'done' }
  /** Recorded in the job. Running the task again would fail again. */
  | { kind: 'failed'; error: ServiceError }
  /** This call's time was nearly over: the next part is on the queue. */
  | { kind: 'continue' }
  /** Nothing is lost. Run the task again later. */
  | { kind: 'retry'; error: ServiceError };
