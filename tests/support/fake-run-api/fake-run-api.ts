import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate as soon } from 'node:timers/promises';

export type FakeState = 'pending' | 'running' | 'succeeded' | 'failed' | 'canceled';

/** A Cloud Run execution or a Vertex AI custom job: what the two have in common. */
export interface FakeExecution {
  name: string;
  /** The Cloud Run job, or the region. */
  parent: string;
  state: FakeState;
  env: Record<string, string>;
  labels: Record<string, string>;
  /** As it was asked for. */
  request: Record<string, unknown>;
}

/** A container of ours that the fake has started for an execution. */
export interface FakeContainer {
  exited: Promise<number | null>;
  /** SIGTERM is how a platform stops it. */
  kill(signal: 'SIGTERM' | 'SIGKILL'): void;
}

export interface FakeRunApiOptions {
  /** Cloud Run jobs that exist. Regions of Vertex AI exist all. */
  jobs?: readonly string[];
  /** Of a list; smaller than asked for, so that there are several. */
  pageSize?: number;
  /** Starts what an execution runs. Without it, executions stay pending until a test moves them. */
  spawn?: (execution: FakeExecution) => FakeContainer | Promise<FakeContainer>;
}

type Operation = 'start' | 'get' | 'list' | 'cancel';

/** What goes wrong with the next calls of an operation. */
export interface RunFault {
  operation: Operation;
  /** Done, and the answer is lost; or answered with `status` and not done. */
  kind: 'lose-reply' | 'refuse';
  status?: number;
  message?: string;
  /** The whole answer, instead of an error as the API writes it. */
  body?: string;
  times?: number;
}

export interface FakeRunApi {
  /** For RUN_API_ENDPOINT and VERTEX_API_ENDPOINT. */
  url: string;
  executions: FakeExecution[];
  /** Every call so far. */
  calls: { operation: Operation; path: string }[];
  /** From now on executions stay pending, until they are let go. */
  hold(isHeld: boolean): void;
  inject(fault: RunFault): void;
  clearFaults(): void;
  /** Kills what it has started. */
  close(): Promise<void>;
}

class ApiError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const STATUS_NAMES: Record<number, string> = {
  400: 'INVALID_ARGUMENT',
  403: 'PERMISSION_DENIED',
  404: 'NOT_FOUND',
  429: 'RESOURCE_EXHAUSTED',
  503: 'UNAVAILABLE',
};

const RUN_JOB = /^\/v2\/(projects\/[^/]+\/locations\/[^/]+\/jobs\/[^/:]+):run$/;
const RUN_EXECUTIONS = /^\/v2\/(projects\/[^/]+\/locations\/[^/]+\/jobs\/[^/:]+)\/executions$/;
const RUN_EXECUTION =
  /^\/v2\/(projects\/[^/]+\/locations\/[^/]+\/jobs\/[^/]+\/executions\/[^/:]+)(:cancel)?$/;
const CUSTOM_JOBS = /^\/v1\/(projects\/[^/]+\/locations\/[^/]+)\/customJobs$/;
const CUSTOM_JOB = /^\/v1\/(projects\/[^/]+\/locations\/[^/]+\/customJobs\/[^/:]+)(:cancel)?$/;

/**
 * As much of the Cloud Run Admin API v2 and of Vertex AI v1 as starting, finding and stopping runs needs, with state.
 * Not here: access control, quotas of its own, the operations behind the answers, labels' and specs' own rules.
 */
export async function startFakeRunApi({
  jobs = [],
  pageSize = 100,
  spawn,
}: FakeRunApiOptions = {}): Promise<FakeRunApi> {
  const executions: FakeExecution[] = [];
  const containers = new Map<FakeExecution, FakeContainer>();
  const calls: FakeRunApi['calls'] = [];
  let faults: RunFault[] = [];
  let isHeld = false;
  let letGo = Promise.withResolvers<void>();

  const run = async (execution: FakeExecution) => {
    if (spawn === undefined) return;
    await soon();
    while (isHeld) await letGo.promise;
    if (execution.state !== 'pending') return;
    const container = await spawn(execution);
    containers.set(execution, container);
    execution.state = 'running';
    const exitCode = await container.exited;
    if (execution.state === 'running') execution.state = exitCode === 0 ? 'succeeded' : 'failed';
  };

  const start = (made: Omit<FakeExecution, 'state'>): FakeExecution => {
    const execution: FakeExecution = { ...made, state: 'pending' };
    executions.push(execution);
    void run(execution);
    return execution;
  };

  const cancel = (execution: FakeExecution) => {
    if (isEnded(execution)) throw new ApiError(400, 'The execution has already completed.');
    execution.state = 'canceled';
    containers.get(execution)?.kill('SIGTERM');
  };

  const find = (name: string): FakeExecution => {
    const execution = executions.find((one) => one.name === name);
    if (execution === undefined) throw new ApiError(404, `Resource '${name}' was not found`);
    return execution;
  };

  const page = (
    all: FakeExecution[],
    query: URLSearchParams,
    field: string,
    show: (one: FakeExecution) => object,
  ) => {
    const from = Number(query.get('pageToken') ?? 0);
    const size = Math.min(pageSize, Number(query.get('pageSize') ?? pageSize));
    const isLast = from + size >= all.length;
    return {
      [field]: all.slice(from, from + size).map(show),
      ...(isLast ? {} : { nextPageToken: String(from + size) }),
    };
  };

  /** @returns the operation, and what does it */
  const route = (
    method: string,
    url: URL,
    body: Record<string, unknown>,
  ): { operation: Operation; work: () => object } => {
    const path = decodeURIComponent(url.pathname);
    const match = (wanted: string, pattern: RegExp) => (method === wanted ? pattern.exec(path) : null);
    const toRun = match('POST', RUN_JOB);
    if (toRun) return { operation: 'start', work: () => startCloudRun(toRun[1] as string, body) };
    const ofJob = match('GET', RUN_EXECUTIONS);
    if (ofJob) {
      const all = executions.filter(({ parent }) => parent === ofJob[1]).toReversed();
      return { operation: 'list', work: () => page(all, url.searchParams, 'executions', showCloudRun) };
    }
    const toMake = match('POST', CUSTOM_JOBS);
    if (toMake) return { operation: 'start', work: () => startCustomJob(toMake[1] as string, body) };
    const inRegion = match('GET', CUSTOM_JOBS);
    if (inRegion) {
      const isMeant = readFilter(url.searchParams.get('filter') ?? '');
      const all = executions.filter((one) => one.parent === inRegion[1] && isMeant(one)).toReversed();
      return { operation: 'list', work: () => page(all, url.searchParams, 'customJobs', showCustomJob) };
    }
    for (const [pattern, show] of [
      [RUN_EXECUTION, showCloudRun],
      [CUSTOM_JOB, showCustomJob],
    ] as const) {
      const one = pattern.exec(path);
      if (one === null) continue;
      const name = one[1] as string;
      if (one[2] === undefined) return { operation: 'get', work: () => show(find(name)) };
      return {
        operation: 'cancel',
        work: () => {
          cancel(find(name));
          return {};
        },
      };
    }
    throw new ApiError(404, `There is no ${method} ${path}`);
  };

  const startCloudRun = (parent: string, body: Record<string, unknown>): object => {
    if (!jobs.includes(parent)) throw new ApiError(404, `Resource '${parent}' of kind 'JOB' does not exist.`);
    const overrides = body.overrides as { containerOverrides?: { env?: Variable[] }[] } | undefined;
    const name = `${parent}/executions/${parent.split('/').at(-1)}-${executions.length}`;
    const env = variables(overrides?.containerOverrides?.[0]?.env);
    const execution = start({ name, parent, env, labels: {}, request: body });
    const operation = `${parent.split('/jobs/')[0]}/operations/${executions.length}`;
    return { name: operation, metadata: showCloudRun(execution) };
  };

  const startCustomJob = (parent: string, body: Record<string, unknown>): object => {
    const spec = body.jobSpec as { workerPoolSpecs: { containerSpec: { env?: Variable[] } }[] };
    const name = `${parent}/customJobs/${1_000 + executions.length}`;
    const env = variables(spec.workerPoolSpecs[0]?.containerSpec.env);
    const labels = body.labels as Record<string, string>;
    return showCustomJob(start({ name, parent, env, labels, request: body }));
  };

  const answer = async (req: IncomingMessage, res: ServerResponse) => {
    try {
      const url = new URL(req.url ?? '/', 'http://fake');
      const text = Buffer.concat(await req.toArray()).toString();
      const body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
      const { operation, work } = route(req.method ?? '', url, body);
      calls.push({ operation, path: url.pathname });
      const fault = faults.find((one) => one.operation === operation && (one.times ?? 1) > 0);
      if (fault !== undefined) fault.times = (fault.times ?? 1) - 1;
      if (fault?.body !== undefined) {
        res.writeHead(fault.status ?? 503).end(fault.body);
        return;
      }
      if (fault?.kind === 'refuse') throw new ApiError(fault.status ?? 503, fault.message ?? 'Unavailable');
      const result = work();
      if (fault?.kind === 'lose-reply') res.destroy();
      else send(res, 200, result);
    } catch (error) {
      const { status = 500, message } = error as ApiError;
      send(res, status, { error: { code: status, message, status: STATUS_NAMES[status] ?? 'INTERNAL' } });
    }
  };

  const server = createServer((req, res) => void answer(req, res));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    executions,
    calls,
    hold(held) {
      isHeld = held;
      letGo.resolve();
      letGo = Promise.withResolvers();
    },
    inject: (fault) => faults.push({ ...fault }),
    clearFaults: () => {
      faults = [];
    },
    async close() {
      for (const container of containers.values()) container.kill('SIGKILL');
      await Promise.all([...containers.values()].map(({ exited }) => exited));
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function isEnded({ state }: FakeExecution): boolean {
  return state !== 'pending' && state !== 'running';
}

interface Variable {
  name: string;
  value?: string;
}

function variables(env: Variable[] = []): Record<string, string> {
  return Object.fromEntries(env.map(({ name, value }) => [name, value ?? '']));
}

/** As the v2 API shows an execution; numbers that are zero are left out. */
function showCloudRun({ name, state, env }: FakeExecution): object {
  const counts = {
    pending: {},
    running: { runningCount: 1 },
    succeeded: { succeededCount: 1 },
    failed: { failedCount: 1 },
    canceled: { cancelledCount: 1 },
  };
  const isOver = state !== 'pending' && state !== 'running';
  return {
    name,
    taskCount: 1,
    ...counts[state],
    ...(isOver ? { completionTime: new Date().toISOString() } : { reconciling: true }),
    template: { containers: [{ env: Object.entries(env).map(([key, value]) => ({ name: key, value })) }] },
  };
}

const CUSTOM_JOB_STATES: Record<FakeState, string> = {
  pending: 'JOB_STATE_QUEUED',
  running: 'JOB_STATE_RUNNING',
  succeeded: 'JOB_STATE_SUCCEEDED',
  failed: 'JOB_STATE_FAILED',
  canceled: 'JOB_STATE_CANCELLED',
};

function showCustomJob({ name, state, labels, request }: FakeExecution): object {
  return { name, displayName: request.displayName, labels, state: CUSTOM_JOB_STATES[state] };
}

/** Conditions on labels and the state, joined by AND. */
function readFilter(filter: string): (execution: FakeExecution) => boolean {
  const conditions = filter.split(' AND ').map((text) => {
    const [, field = '', not, value = ''] = /^([\w.]+)(!?)="([^"]*)"$/.exec(text) ?? [];
    if (field === '') throw new ApiError(400, `Invalid filter: ${text}`);
    return (execution: FakeExecution) => {
      const actual = field.startsWith('labels.')
        ? execution.labels[field.slice('labels.'.length)]
        : CUSTOM_JOB_STATES[execution.state];
      return (actual === value) !== (not === '!');
    };
  });
  return (execution) => conditions.every((condition) => condition(execution));
}

function send(res: ServerResponse, status: number, body: object): void {
  res.writeHead(status, { 'Content-Type': 'application/json; charset=UTF-8' }).end(JSON.stringify(body));
}
