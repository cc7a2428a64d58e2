import { usesVertex } from './access.ts';
import type { Gcloud } from './gcloud.ts';
import { BACKEND_LABEL, ENVIRONMENT_LABEL, type Layout } from './layout.ts';
import { type DeployedQueue, type DeployedRun, lastPart } from './observe.ts';
import { readApiKeyCommand } from './steps/create-secrets.ts';

export interface StatusReport {
  runs: { name: string; kind: 'service' | 'job'; isReady: boolean; detail: string }[];
  queues: { name: string; state: string; tasks: string }[];
  running: { backend: string; executions: string[] }[];
  /** What the API says of itself; undefined where it is not deployed. */
  health: string | undefined;
}

/** More are not counted. */
const MAX_TASKS = 500;
const HEALTH_TIMEOUT_MS = 30_000;
const VERTEX_ENDED = /^JOB_STATE_(SUCCEEDED|FAILED|CANCELLED|EXPIRED)$/;

export interface VertexJob {
  name: string;
  displayName?: string;
  state?: string;
  jobSpec?: { serviceAccount?: string };
}

export async function readStatus(
  { gcloud, layout }: { gcloud: Gcloud; layout: Layout },
  ask: (url: string) => Promise<string> = askHealth,
): Promise<StatusReport> {
  const { region } = layout;
  const list = async <T>(...args: string[]): Promise<T[]> => (await gcloud.json<T[] | null>(...args)) ?? [];
  const ours = ({ metadata }: DeployedRun) =>
    metadata.labels?.[ENVIRONMENT_LABEL] === layout.environment.name;
  const [services, jobs, queues] = await Promise.all([
    list<DeployedRun>('run', 'services', 'list', `--region=${region}`).then((all) => all.filter(ours)),
    list<DeployedRun>('run', 'jobs', 'list', `--region=${region}`).then((all) => all.filter(ours)),
    list<DeployedQueue>('tasks', 'queues', 'list', `--location=${region}`),
  ]);
  const names = [layout.queues.cpu, ...Object.values(layout.queues.backends)];
  const [ourQueues, executions, vertex, health] = await Promise.all([
    Promise.all(
      queues
        .filter(({ name }) => names.includes(lastPart(name)))
        .map(async ({ name, state = '' }) => {
          const tasks = await list(
            'tasks',
            'list',
            `--queue=${lastPart(name)}`,
            `--location=${region}`,
            `--limit=${MAX_TASKS + 1}`,
            `--page-size=${MAX_TASKS + 1}`,
          );
          const count = tasks.length > MAX_TASKS ? `more than ${MAX_TASKS}` : String(tasks.length);
          return { name: lastPart(name), state: state.toLowerCase(), tasks: count };
        }),
    ),
    Promise.all(
      jobs.map(async ({ metadata }) => {
        const all = await list<{ metadata: { name: string }; status?: { completionTime?: string } }>(
          'run',
          'jobs',
          'executions',
          'list',
          `--job=${metadata.name}`,
          `--region=${region}`,
        );
        const running = all.filter(({ status }) => status?.completionTime === undefined);
        return {
          backend: metadata.labels?.[BACKEND_LABEL] ?? metadata.name,
          executions: running.map((one) => one.metadata.name),
        };
      }),
    ),
    usesVertex(layout) ? runningVertexJobs(gcloud, layout) : [],
    services.some(({ metadata }) => metadata.name === layout.services.api)
      ? ask(`${layout.urls.api}/health/ready`)
      : undefined,
  ]);
  return {
    runs: [
      ...services.map((run) => describeRun('service', run)),
      ...jobs.map((run) => describeRun('job', run)),
    ],
    queues: ourQueues,
    running: [
      ...executions,
      ...(usesVertex(layout)
        ? [{ backend: 'Vertex AI', executions: vertex.map((job) => job.displayName ?? lastPart(job.name)) }]
        : []),
    ],
    health,
  };
}

/** Of this environment, wherever its backends make them. */
export async function runningVertexJobs(gcloud: Gcloud, layout: Layout): Promise<VertexJob[]> {
  const locations = new Set([
    layout.region,
    ...layout.environment.backends.flatMap((backend) =>
      backend.kind === 'vertex-job' ? [backend.location ?? layout.region] : [],
    ),
  ]);
  const jobs = await Promise.all(
    [...locations].map(async (location) =>
      gcloud.json<VertexJob[] | null>('ai', 'custom-jobs', 'list', `--region=${location}`),
    ),
  );
  return jobs
    .flatMap((some) => some ?? [])
    .filter(
      ({ state = '', jobSpec }) =>
        !VERTEX_ENDED.test(state) && jobSpec?.serviceAccount === layout.accounts.gpu,
    );
}

function describeRun(
  kind: 'service' | 'job',
  { metadata, status }: DeployedRun,
): StatusReport['runs'][number] {
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  const isReady = ready?.status === 'True';
  return {
    kind,
    name: metadata.name,
    isReady,
    detail: isReady ? (status?.url ?? '') : (ready?.message ?? 'it is being deployed'),
  };
}

async function askHealth(url: string): Promise<string> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) });
    return response.ok ? 'ready' : `answers ${response.status}`;
  } catch (error) {
    return `does not answer: ${error instanceof Error ? error.message : error}`;
  }
}

export function statusText(layout: Layout, { runs, queues, running, health }: StatusReport): string {
  const { environment, project, region, urls } = layout;
  const where = `${environment.name} in the project ${project.id}, ${region}`;
  if (runs.length === 0) return `${where}: nothing is deployed. \`npm run deploy -- up\` does it.\n`;
  return `${[
    where,
    '',
    `API  ${urls.api}`,
    `     ${health ?? 'not deployed'}; its key: ${readApiKeyCommand(layout)}`,
    '',
    ...runs.map(
      ({ name, kind, isReady, detail }) => `${kind} ${name}: ${isReady ? 'ready' : 'not ready'}  ${detail}`,
    ),
    '',
    ...queues.map(
      ({ name, state, tasks }) =>
        `queue ${name}: ${tasks} waiting or under way${state === 'running' ? '' : `, ${state}`}`,
    ),
    ...running.map(
      ({ backend, executions }) =>
        `runs on ${backend}: ${executions.length === 0 ? 'none' : executions.join(', ')}`,
    ),
  ].join('\n')}\n`;
}
