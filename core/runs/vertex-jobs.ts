import type { JobBackend } from '../backends.ts';
import type { TaskPayload } from '../tasks/task.ts';
import { explainStart, type GoogleApi, GoogleApiError } from './google-api.ts';
import { type Execution, type ExecutionState, type Runs, RunUnclear } from './runs.ts';

type VertexBackend = Extract<JobBackend, { kind: 'vertex-job' }>;

/** What we read of one: https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.customJobs */
interface CustomJob {
  name: string;
  state?: string;
  labels?: Record<string, string>;
}

/** With flex-start, and with spot where there is no machine, a job waits in one of the first two. */
const STATES: Record<string, ExecutionState> = {
  JOB_STATE_QUEUED: 'pending',
  JOB_STATE_PENDING: 'pending',
  JOB_STATE_PAUSED: 'pending',
  JOB_STATE_UPDATING: 'pending',
  JOB_STATE_RUNNING: 'running',
  JOB_STATE_CANCELLING: 'running',
  JOB_STATE_SUCCEEDED: 'ended',
  JOB_STATE_PARTIALLY_SUCCEEDED: 'ended',
  JOB_STATE_FAILED: 'ended',
  JOB_STATE_CANCELLED: 'ended',
  JOB_STATE_EXPIRED: 'ended',
};
const ENDED = Object.keys(STATES).filter((state) => STATES[state] === 'ended');

const RUN_LABEL = 'zeroscribe_run';
const BACKEND_LABEL = 'zeroscribe_backend';

/** Custom jobs of Vertex AI, made anew for each run. Labels say which run and which backend each is of. */
export class VertexJobs implements Runs {
  readonly #api: GoogleApi;
  readonly #backend: VertexBackend;

  constructor(api: GoogleApi, backend: VertexBackend) {
    this.#api = api;
    this.#backend = backend;
  }

  async start(id: string, task: TaskPayload): Promise<string> {
    const { name, job, spec } = this.#backend;
    const jobSpec = structuredClone(spec);
    for (const { containerSpec } of jobSpec.workerPoolSpecs ?? []) {
      containerSpec.env = [
        ...(containerSpec.env ?? []).filter((variable) => variable.name !== 'RUN_TASK'),
        { name: 'RUN_TASK', value: JSON.stringify({ ...task, run: id }) },
      ];
    }
    const body = {
      displayName: `zeroscribe ${id}`,
      labels: { [RUN_LABEL]: id, [BACKEND_LABEL]: name },
      jobSpec,
    };
    try {
      const made: CustomJob = await this.#api.once({
        method: 'POST',
        path: `/v1/${job}/customJobs`,
        body,
      });
      if (typeof made.name === 'string') return made.name;
    } catch (error) {
      throw explainStart(error);
    }
    throw new RunUnclear(`POST /v1/${job}/customJobs named no custom job`);
  }

  async find(id: string): Promise<Execution[]> {
    const found: Execution[] = [];
    for await (const job of this.#list(`labels.${RUN_LABEL}="${id}"`)) {
      found.push({ name: job.name, state: stateOf(job) });
    }
    return found;
  }

  async state(name: string): Promise<ExecutionState> {
    try {
      return stateOf(await this.#api.repeat<CustomJob>({ method: 'GET', path: `/v1/${name}` }));
    } catch (error) {
      if (error instanceof GoogleApiError && error.status === 404) return 'ended';
      throw error;
    }
  }

  async cancel(name: string): Promise<void> {
    try {
      await this.#api.repeat({ method: 'POST', path: `/v1/${name}:cancel`, body: {} });
    } catch (error) {
      // 400: it has ended.
      if (!(error instanceof GoogleApiError && (error.status === 404 || error.status === 400))) throw error;
    }
  }

  async living(): Promise<(string | undefined)[]> {
    const filter = [
      `labels.${BACKEND_LABEL}="${this.#backend.name}"`,
      ...ENDED.map((state) => `state!="${state}"`),
    ];
    const living: (string | undefined)[] = [];
    for await (const job of this.#list(filter.join(' AND '))) {
      if (stateOf(job) !== 'ended') living.push(job.labels?.[RUN_LABEL]);
    }
    return living;
  }

  #list(filter: string): AsyncGenerator<CustomJob> {
    const path = `/v1/${this.#backend.job}/customJobs`;
    return this.#api.list(path, 'customJobs', { filter, pageSize: '100' });
  }
}

/** A state that we do not know is no end. */
function stateOf({ state = '' }: CustomJob): ExecutionState {
  return STATES[state] ?? 'pending';
}
