import type { TaskPayload } from '../tasks/task.ts';

/** `pending`: nobody works yet, and nothing is paid for. */
export type ExecutionState = 'pending' | 'running' | 'ended';

export interface Execution {
  name: string;
  state: ExecutionState;
}

/** The executions of one backend, each of which is started for one task: a Cloud Run job, Vertex AI custom jobs. */
export interface Runs {
  /**
   * Starts an execution that carries `id`, by which it can be found, and does `task`. Never repeats itself.
   * @returns its name
   * @throws {RunRefused} nothing was started
   * @throws {RunUnclear} nobody knows: look with `find`
   */
  start(id: string, task: TaskPayload): Promise<string>;

  /** Those that carry `id`. Usually one, or none. */
  find(id: string): Promise<Execution[]>;

  /** One that is not there, or not any more, has ended. */
  state(execution: string): Promise<ExecutionState>;

  /** Stops it, as soon as it can. One that has ended is success too. */
  cancel(execution: string): Promise<void>;

  /** Those of this backend that are pending or running: what each carries, or nothing if it is none of ours. */
  living(): Promise<(string | undefined)[]>;
}

/** Why an execution could not be started. */
export type Refusal =
  /** No quota or capacity now. */
  | 'busy'
  /** The service account may not, or the API is switched off. */
  | 'forbidden'
  /** There is no such job, project or region. */
  | 'missing'
  /** What is configured makes no sense to the API. */
  | 'invalid';

/** The message is safe to log: it holds no token. */
export class RunRefused extends Error {
  override readonly name = 'RunRefused';
  readonly refusal: Refusal;

  constructor(refusal: Refusal, message: string) {
    super(message);
    this.refusal = refusal;
  }

  /** Whether asking again later can help without anybody changing anything. */
  get isPassing(): boolean {
    return this.refusal === 'busy';
  }
}

/** The answer to a start was lost, or said nothing. The message is safe to log. */
export class RunUnclear extends Error {
  override readonly name = 'RunUnclear';
}
