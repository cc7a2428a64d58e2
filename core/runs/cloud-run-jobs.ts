import type { TaskPayload } from '../tasks/task.ts';
import { readTaskPayload } from '../tasks/task-payload.ts';
import { explainStart, type GoogleApi, GoogleApiError } from './google-api.ts';
import { type Execution, type ExecutionState, type Runs, RunUnclear } from './runs.ts';

/** What we read of one: https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs.executions */
interface RunExecution {
  name: string;
  completionTime?: string;
  runningCount?: number;
  conditions?: { type?: string; state?: string }[];
  template?: { containers?: { env?: { name: string; value?: string }[] }[] };
}

/** While it goes on, the condition Completed is pending or reconciling. */
const COMPLETED = new Set(['CONDITION_SUCCEEDED', 'CONDITION_FAILED']);

/**
 * The executions of a Cloud Run job. `jobs.run` takes no labels, but it overrides the environment, and an execution
 * shows with what it was made: it is found by its RUN_TASK.
 */
export class CloudRunJobs implements Runs {
  readonly #api: GoogleApi;
  readonly #job: string;

  /** `job`: `projects/P/locations/L/jobs/J`. */
  constructor(api: GoogleApi, job: string) {
    this.#api = api;
    this.#job = job;
  }

  async start(id: string, task: TaskPayload): Promise<string> {
    const env = [{ name: 'RUN_TASK', value: JSON.stringify({ ...task, run: id }) }];
    const body = { overrides: { taskCount: 1, containerOverrides: [{ env }] } };
    const path = `/v2/${this.#job}:run`;
    let operation: { metadata?: RunExecution };
    try {
      operation = await this.#api.once({ method: 'POST', path, body });
    } catch (error) {
      throw explainStart(error);
    }
    // An operation that names no execution yet: it is looked for.
    return operation.metadata?.name ?? (await this.#only(id));
  }

  async find(id: string): Promise<Execution[]> {
    const found: Execution[] = [];
    for await (const execution of this.#all()) {
      if (runOf(execution) === id) found.push({ name: execution.name, state: stateOf(execution) });
    }
    return found;
  }

  async state(name: string): Promise<ExecutionState> {
    try {
      return stateOf(await this.#api.repeat({ method: 'GET', path: `/v2/${name}` }));
    } catch (error) {
      if (error instanceof GoogleApiError && error.status === 404) return 'ended';
      throw error;
    }
  }

  async cancel(name: string): Promise<void> {
    try {
      await this.#api.repeat({ method: 'POST', path: `/v2/${name}:cancel`, body: {} });
    } catch (error) {
      // 400: it has ended.
      if (!(error instanceof GoogleApiError && (error.status === 404 || error.status === 400))) throw error;
    }
  }

  async living(): Promise<(string | undefined)[]> {
    const living: (string | undefined)[] = [];
    for await (const execution of this.#all()) {
      if (stateOf(execution) !== 'ended') living.push(runOf(execution));
    }
    return living;
  }

  #all(): AsyncGenerator<RunExecution> {
    return this.#api.list(`/v2/${this.#job}/executions`, 'executions', { pageSize: '100' });
  }

  async #only(id: string): Promise<string> {
    const [execution] = await this.find(id);
    if (execution === undefined) throw new RunUnclear(`POST /v2/${this.#job}:run named no execution`);
    return execution.name;
  }
}

function stateOf({ completionTime, runningCount = 0, conditions = [] }: RunExecution): ExecutionState {
  // Of one that never got to run, the condition may be all that says it.
  const isCompleted = conditions.some(({ type, state = '' }) => type === 'Completed' && COMPLETED.has(state));
  if (completionTime !== undefined || isCompleted) return 'ended';
  return runningCount > 0 ? 'running' : 'pending';
}

function runOf({ template }: RunExecution): string | undefined {
  const variables = template?.containers?.flatMap(({ env }) => env ?? []) ?? [];
  const text = variables.find(({ name }) => name === 'RUN_TASK')?.value;
  if (text === undefined) return undefined;
  try {
    return readTaskPayload(JSON.parse(text))?.run;
  } catch {
    return undefined;
  }
}
