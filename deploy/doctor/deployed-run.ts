import type { Manifest } from '../knative.ts';
import { BACKEND_LABEL, ENVIRONMENT_LABEL, type Layout } from '../layout.ts';
import type { DeployedRun } from '../observe.ts';

// Services and jobs in the form of `gcloud run … list --format=json`, which is that of manifests.

interface Container {
  image?: string;
  env?: { name: string; value?: string }[];
  resources?: { limits?: Record<string, string> };
  startupProbe?: {
    httpGet?: { path?: string };
    periodSeconds?: number;
    timeoutSeconds?: number;
    failureThreshold?: number;
  };
}

/** The template of a service's revision, or of a job's task: where containers are. */
interface Template {
  containerConcurrency?: number;
  timeoutSeconds?: number | string;
  serviceAccountName?: string;
  nodeSelector?: Record<string, string>;
  containers?: Container[];
}

/** What a service or job asks for, in numbers. */
export interface RunShape {
  name: string;
  /** Instances of a service, tasks of an execution. */
  most: number;
  gpus: number;
  accelerator: string | undefined;
  cpuMillis: number;
  memoryBytes: number;
}

type Run = DeployedRun | Manifest;

/** On what concerns instances. */
export function annotationsOf({ spec }: Run): Record<string, string> {
  const { template } = spec as { template?: { metadata?: { annotations?: Record<string, string> } } };
  return template?.metadata?.annotations ?? {};
}

export function templateOf({ kind, spec }: Run): Template {
  const { template } = spec as { template?: { spec?: Record<string, unknown> } };
  if (kind === 'Service') return (template?.spec ?? {}) as Template;
  return ((template?.spec?.template as { spec?: Template } | undefined)?.spec ?? {}) as Template;
}

export function containerOf(run: Run): Container {
  return templateOf(run).containers?.[0] ?? {};
}

export function variablesOf(run: Run): Record<string, string> {
  return Object.fromEntries(
    (containerOf(run).env ?? []).flatMap(({ name, value }) => (value === undefined ? [] : [[name, value]])),
  );
}

/** Cloud Run's own default. */
const DEFAULT_MAX_INSTANCES = 100;

export function shapeOf(run: Run): RunShape {
  const limits = containerOf(run).resources?.limits ?? {};
  const { parallelism } = ((run.spec as { template?: { spec?: { parallelism?: number } } }).template?.spec ??
    {}) as { parallelism?: number };
  const scale = annotationsOf(run)['autoscaling.knative.dev/maxScale'];
  return {
    name: run.metadata.name,
    most: run.kind === 'Job' ? parallelism || 1 : Number(scale ?? DEFAULT_MAX_INSTANCES),
    gpus: Number(limits['nvidia.com/gpu'] ?? 0),
    accelerator: templateOf(run).nodeSelector?.['run.googleapis.com/accelerator'],
    cpuMillis: cpuMillis(limits.cpu ?? '1'),
    memoryBytes: memoryBytes(limits.memory ?? '512Mi'),
  };
}

function cpuMillis(text: string): number {
  return text.endsWith('m') ? Number(text.slice(0, -1)) : Number(text) * 1_000;
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  K: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 1024,
  Mi: 1024 ** 2,
  Gi: 1024 ** 3,
  Ti: 1024 ** 4,
};

export function memoryBytes(text: string): number {
  const [, number = '0', unit = ''] = /^([\d.]+)([A-Za-z]*)$/.exec(text) ?? [];
  return Number(number) * (UNITS[unit] ?? Number.NaN);
}

export function isOurs({ environment }: Layout, { metadata }: DeployedRun): boolean {
  return metadata.labels?.[ENVIRONMENT_LABEL] === environment.name;
}

/** Which backend it stands for, if any. */
export function backendOf({ metadata }: DeployedRun): string | undefined {
  return metadata.labels?.[BACKEND_LABEL];
}

export function conditionOf(
  { status }: DeployedRun,
  type: string,
): { status: string; message?: string } | undefined {
  return status?.conditions?.find((condition) => condition.type === type);
}
