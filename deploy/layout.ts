import type { Environment, EnvironmentBackend } from './environment.ts';

export interface Project {
  id: string;
  /** Part of the addresses of Cloud Run services, so that they are known before the services are there. */
  number: string;
}

/** For a plan that nobody has an account for. */
export const UNKNOWN_PROJECT: Project = { id: 'PROJECT_ID', number: 'PROJECT_NUMBER' };

/** The label on everything that can have one. `down` takes nothing else. */
export const ENVIRONMENT_LABEL = 'zeroscribe-environment';
/** Which backend a service or job is. */
export const BACKEND_LABEL = 'zeroscribe-backend';

export const ACCOUNT_ROLES = ['api', 'cpu', 'gpu', 'invoker', 'build'] as const;
export type AccountRole = (typeof ACCOUNT_ROLES)[number];
export const IMAGE_NAMES = ['api', 'gpu'] as const;
export type ImageName = (typeof IMAGE_NAMES)[number];

/** What everything is called, and where it is. */
export interface Layout {
  environment: Environment;
  project: Project;
  region: string;
  labels: Record<string, string>;
  /** Emails. */
  accounts: Record<AccountRole, string>;
  bucket: string;
  /** Sources and logs of image builds. */
  buildBucket: string;
  repository: string;
  /** With their tags. */
  images: Record<ImageName, string>;
  /** As CLOUD_TASKS_QUEUES wants it. */
  queuePrefix: string;
  queues: { cpu: string; backends: Record<string, string> };
  services: { api: string; cpu: string };
  urls: { api: string; cpu: string };
  /** The name of the service or job of a backend, and what it answers at. */
  backendName(backend: Pick<EnvironmentBackend, 'name'>): string;
  backendUrl(backend: EnvironmentBackend): string;
  /** What cpu-service may do at Vertex AI; no role of Google's is as small. */
  vertexRole: string;
}

export function layOut(
  environment: Environment,
  project: Project,
  imageTags: Record<ImageName, string>,
): Layout {
  const { prefix, region, backends, queuePrefix = prefix } = environment;
  const account = (role: AccountRole) => `${prefix}-${role}@${project.id}.iam.gserviceaccount.com`;
  const url = (service: string) => `https://${service}-${project.number}.${region}.run.app`;
  const backendName = ({ name }: Pick<EnvironmentBackend, 'name'>) => `${prefix}-${name}`;
  const images = `${region}-docker.pkg.dev/${project.id}/${prefix}`;
  const bucket = environment.bucket ?? `${project.id}-${prefix}`;
  return {
    environment,
    project,
    region,
    labels: { [ENVIRONMENT_LABEL]: environment.name },
    accounts: {
      api: account('api'),
      cpu: account('cpu'),
      gpu: account('gpu'),
      invoker: account('invoker'),
      build: account('build'),
    },
    bucket,
    buildBucket: `${bucket}-build`,
    repository: prefix,
    images: { api: `${images}/api:${imageTags.api}`, gpu: `${images}/gpu:${imageTags.gpu}` },
    queuePrefix: `projects/${project.id}/locations/${region}/queues/${queuePrefix}`,
    queues: {
      cpu: `${queuePrefix}-cpu`,
      backends: Object.fromEntries(
        backends.filter(hasQueue).map(({ name }) => [name, `${queuePrefix}-${name}`]),
      ),
    },
    services: { api: `${prefix}-api`, cpu: `${prefix}-cpu` },
    urls: { api: url(`${prefix}-api`), cpu: url(`${prefix}-cpu`) },
    backendName,
    backendUrl: (backend) => {
      if (backend.kind === 'server') return backend.url;
      return url(backend.kind === 'voxtral' ? `${prefix}-cpu` : backendName(backend));
    },
    vertexRole: `${prefix.replaceAll('-', '_')}_vertex`,
  };
}

/** Whether tasks are brought to it by HTTP, for Voxtral to cpu-service. The others are started. */
function hasQueue({ kind }: EnvironmentBackend): boolean {
  return kind === 'cloud-run-service' || kind === 'server' || kind === 'voxtral';
}
