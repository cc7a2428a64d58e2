import {
  type Access,
  buildAccess,
  callerAccess,
  formerAccess,
  keyOf,
  ourMembers,
  serviceAccess,
  usesVertex,
} from './access.ts';
import type { Environment } from './environment.ts';
import type { Command, Gcloud } from './gcloud.ts';
import { type Build, listBuildsArguments } from './images.ts';
import { BACKEND_LABEL, ENVIRONMENT_LABEL, type Layout, type Project } from './layout.ts';
import { ofMember, type Policy } from './policy.ts';
import { policyArguments } from './policy-commands.ts';

// What is there, as far as it is of this environment. Every call of gcloud takes about a second, so each kind of thing
// is listed once, and what cannot be there (its API is not enabled) is not asked for.

export interface DeployedBucket {
  name: string;
  labels?: Record<string, string>;
  iamConfiguration?: {
    uniformBucketLevelAccess?: { enabled?: boolean };
    publicAccessPrevention?: string;
  };
  softDeletePolicy?: { retentionDurationSeconds?: string | number };
  lifecycle?: { rule?: unknown[] };
  cors?: unknown[];
}

export interface DeployedQueue {
  name: string;
  state?: string;
  rateLimits?: { maxConcurrentDispatches?: number; maxDispatchesPerSecond?: number };
  retryConfig?: {
    maxAttempts?: number;
    maxRetryDuration?: string;
    minBackoff?: string;
    maxBackoff?: string;
    maxDoublings?: number;
  };
}

export interface DeployedRun {
  kind: 'Service' | 'Job';
  metadata: { name: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  spec: Record<string, unknown>;
  status?: {
    url?: string;
    conditions?: { type: string; status: string; message?: string }[];
    latestReadyRevisionName?: string;
  };
}

export interface DeployedRepository {
  name: string;
  labels?: Record<string, string>;
  cleanupPolicies?: Record<string, unknown>;
}

export interface DeployedRole {
  includedPermissions?: string[];
  deleted?: boolean;
}

/** Names are the last part of Google's. */
export interface Deployed {
  apis: Set<string>;
  accounts: Set<string>;
  repository: DeployedRepository | undefined;
  /** With their tags. */
  images: Set<string>;
  /** Of images, the newest first. */
  builds: Build[];
  buckets: Map<string, DeployedBucket>;
  queues: Map<string, DeployedQueue>;
  /** Of ours, those of backends that have left the file and of which nothing else is there. */
  formerQueues: string[];
  /** And whether it has a value. */
  secrets: Map<string, { hasValue: boolean; labels: Record<string, string> }>;
  /** By kind and name. */
  runs: Map<string, DeployedRun>;
  vertexRole: DeployedRole | undefined;
  /** Of what is there, by `keyOf`. */
  policies: Map<string, Policy>;
  projectPolicy: Policy | undefined;
  /** What has a name of ours and not our label: somebody else's, until it is handed over. */
  strangers: Stranger[];
}

export interface Stranger {
  /** Such as "the service zeroscribe-staging-api". */
  what: string;
  /** The environment that it says it is of. */
  owner: string | undefined;
  /** Gives it our label. */
  handOver: Command;
}

export const NOTHING: Deployed = {
  apis: new Set(),
  accounts: new Set(),
  repository: undefined,
  images: new Set(),
  builds: [],
  buckets: new Map(),
  queues: new Map(),
  formerQueues: [],
  secrets: new Map(),
  runs: new Map(),
  vertexRole: undefined,
  policies: new Map(),
  projectPolicy: undefined,
  strangers: [],
};

export function runKey(kind: 'Service' | 'Job', name: string): string {
  return `${kind} ${name}`;
}

/** @throws {GcloudError} */
export async function readProject(gcloud: Gcloud, id: string): Promise<Project> {
  const { projectId, projectNumber } = await gcloud.json<{ projectId: string; projectNumber: string }>(
    'projects',
    'describe',
    id,
  );
  return { id: projectId, number: projectNumber };
}

/** `layout`: its image tags are not looked at. Whoever takes things down need not know who may use them. */
export async function observe(
  gcloud: Gcloud,
  layout: Layout,
  { withPolicies = true }: { withPolicies?: boolean } = {},
): Promise<Deployed> {
  const apis = new Set(
    (await list<{ config?: { name?: string }; name?: string }>(gcloud, 'services', 'list', '--enabled')).map(
      ({ config, name }) => config?.name ?? lastPart(name),
    ),
  );
  const when = async <T>(api: string, otherwise: T, read: () => Promise<T>): Promise<T> =>
    apis.has(api) ? read() : otherwise;
  const { region, environment } = layout;

  const [accounts, [repository, images], builds, buckets, queues, secrets, services, jobs, vertex] =
    await Promise.all([
      when('iam.googleapis.com', [], () =>
        list<{ email: string }>(gcloud, 'iam', 'service-accounts', 'list'),
      ),
      when('artifactregistry.googleapis.com', [undefined, []], () => observeImages(gcloud, layout)),
      when('cloudbuild.googleapis.com', [], () => list<Build>(gcloud, ...listBuildsArguments(layout))),
      when('storage.googleapis.com', [], () =>
        list<DeployedBucket>(gcloud, 'storage', 'buckets', 'list', '--raw', `--filter=name:${layout.bucket}`),
      ),
      when('cloudtasks.googleapis.com', [], () =>
        list<DeployedQueue>(gcloud, 'tasks', 'queues', 'list', `--location=${region}`),
      ),
      when('secretmanager.googleapis.com', new Map(), () => observeSecrets(gcloud, environment)),
      when('run.googleapis.com', [], () =>
        list<DeployedRun>(gcloud, 'run', 'services', 'list', `--region=${region}`),
      ),
      when('run.googleapis.com', [], () =>
        list<DeployedRun>(gcloud, 'run', 'jobs', 'list', `--region=${region}`),
      ),
      when<{ role?: DeployedRole | undefined; policy?: Policy }>('iam.googleapis.com', {}, async () => {
        // One that is there although nobody uses it any more is to go.
        const role = await gcloud.find<DeployedRole>('iam', 'roles', 'describe', layout.vertexRole);
        if (!usesVertex(layout) && role === undefined) return {};
        return { role, policy: await gcloud.json<Policy>('projects', 'get-iam-policy', layout.project.id) };
      }),
    ]);

  const allRuns = [
    ...services.map((run): DeployedRun => ({ ...run, kind: 'Service' })),
    ...jobs.map((run): DeployedRun => ({ ...run, kind: 'Job' })),
  ];
  const ourBuckets = buckets.filter(({ name }) => name === layout.bucket || name === layout.buildBucket);
  const found: Found = {
    apis,
    accounts: new Set(
      accounts.map(({ email }) => email).filter((email) => Object.values(layout.accounts).includes(email)),
    ),
    repository,
    images: new Set(images),
    builds,
    buckets: new Map(ourBuckets.map((bucket) => [bucket.name, bucket])),
    queues: new Map(queues.map((queue) => [lastPart(queue.name), { ...queue, name: lastPart(queue.name) }])),
    secrets,
    runs: new Map(
      allRuns
        .filter(({ metadata }) => metadata.labels?.[ENVIRONMENT_LABEL] === environment.name)
        .map((run) => [runKey(run.kind, run.metadata.name), run]),
    ),
    vertexRole: vertex.role,
    projectPolicy: vertex.policy,
  };
  const [policies, strangers, formerQueues] = await Promise.all([
    withPolicies ? observePolicies(gcloud, layout, found) : new Map(),
    findStrangers(gcloud, layout, { repository, buckets: ourBuckets, runs: allRuns }),
    findFormerQueues(gcloud, layout, found),
  ]);
  return { ...found, policies, strangers, formerQueues };
}

type Found = Omit<Deployed, 'policies' | 'strangers' | 'formerQueues'>;

/** The queue of a backend, whether or not it is in the file. */
export function queueOf(layout: Layout, backend: string): string {
  return layout.queues.cpu.replace(/cpu$/, backend);
}

/** A queue has no labels, so one that the file does not name is told from others' by whom it lets put tasks on it. */
async function findFormerQueues(gcloud: Gcloud, layout: Layout, { queues, runs }: Found): Promise<string[]> {
  const known = new Set([
    layout.queues.cpu,
    ...Object.values(layout.queues.backends),
    // These go with their service or job.
    ...[...runs.values()].flatMap(({ metadata }) => {
      const backend = metadata.labels?.[BACKEND_LABEL];
      return backend === undefined ? [] : [queueOf(layout, backend)];
    }),
  ]);
  const ours = ourMembers(layout);
  const candidates = [...queues.keys()].filter(
    (name) => name.startsWith(queueOf(layout, '')) && !known.has(name),
  );
  const found = await Promise.all(
    candidates.map(async (name) => {
      const resource = { kind: 'queue' as const, name };
      const { bindings = [] } =
        (await gcloud.json<Policy | null>(...policyArguments(layout, resource, 'get-iam-policy'))) ?? {};
      const isOurs = bindings.some(
        ({ role, members }) =>
          role === 'roles/cloudtasks.enqueuer' && members.some((member) => ours.has(ofMember(member))),
      );
      return isOurs ? [name] : [];
    }),
  );
  return found.flat();
}

async function findStrangers(
  gcloud: Gcloud,
  layout: Layout,
  {
    repository,
    buckets,
    runs,
  }: { repository: DeployedRepository | undefined; buckets: DeployedBucket[]; runs: DeployedRun[] },
): Promise<Stranger[]> {
  const { region, services, environment, backendName } = layout;
  const names = [services.api, services.cpu, ...environment.backends.map(backendName)];
  const label = `--update-labels=${ENVIRONMENT_LABEL}=${environment.name}`;
  const strangers = (
    what: string,
    labels: Record<string, string> | undefined,
    args: string[],
  ): Stranger[] => {
    const owner = labels?.[ENVIRONMENT_LABEL];
    return owner === environment.name ? [] : [{ what, owner, handOver: { args: [...args, label] } }];
  };
  const ofBuckets = await Promise.all(
    buckets.map(async ({ name, labels = {} }) => {
      const found = strangers(`the bucket ${name}`, labels, ['storage', 'buckets', 'update', `gs://${name}`]);
      if (found.length === 0 || Object.keys(labels).length > 0) return found;
      // gcloud makes a bucket before it can label it: whoever was interrupted in between left an empty one.
      const objects = await list(gcloud, 'storage', 'objects', 'list', `gs://${name}`, '--limit=1');
      return objects.length === 0 ? [] : found;
    }),
  );
  return [
    ...ofBuckets.flat(),
    ...(repository === undefined
      ? []
      : strangers(`the image repository ${layout.repository}`, repository.labels, [
          ...['artifacts', 'repositories', 'update', layout.repository, `--location=${region}`],
        ])),
    ...runs
      .filter(({ metadata }) => names.includes(metadata.name))
      .flatMap(({ kind, metadata: { name, labels } }) =>
        strangers(`the ${kind.toLowerCase()} ${name}`, labels, [
          ...['run', kind === 'Job' ? 'jobs' : 'services', 'update', name, `--region=${region}`],
        ]),
      ),
  ];
}

async function observeImages(
  gcloud: Gcloud,
  layout: Layout,
): Promise<[DeployedRepository | undefined, string[]]> {
  const { region, repository, project } = layout;
  const repositories = await list<DeployedRepository>(
    gcloud,
    'artifacts',
    'repositories',
    'list',
    `--location=${region}`,
  );
  const found = repositories.find(({ name }) => lastPart(name) === repository);
  if (found === undefined) return [undefined, []];
  const images = await list<{ package: string; tags?: string | string[] }>(
    gcloud,
    'artifacts',
    'docker',
    'images',
    'list',
    `${region}-docker.pkg.dev/${project.id}/${repository}`,
    '--include-tags',
  );
  // Older versions of gcloud print the tags as one text.
  const tagsOf = ({ tags = [] }: { tags?: string | string[] }) =>
    (typeof tags === 'string' ? tags.split(',') : tags).map((tag) => tag.trim()).filter(Boolean);
  return [found, images.flatMap((image) => tagsOf(image).map((tag) => `${image.package}:${tag}`))];
}

async function observeSecrets(gcloud: Gcloud, environment: Environment): Promise<Deployed['secrets']> {
  const wanted = Object.values(environment.secrets).filter((name) => name !== undefined);
  const secrets = await list<{ name: string; labels?: Record<string, string> }>(gcloud, 'secrets', 'list');
  const found = secrets.filter(
    ({ name, labels }) => wanted.includes(lastPart(name)) || labels?.[ENVIRONMENT_LABEL] === environment.name,
  );
  return new Map(
    await Promise.all(
      found.map(async ({ name, labels = {} }) => {
        // A secret is made before its value: whoever was interrupted in between left one without.
        const versions = await list(
          gcloud,
          'secrets',
          'versions',
          'list',
          lastPart(name),
          '--filter=state=ENABLED',
          '--limit=1',
        );
        return [lastPart(name), { hasValue: versions.length > 0, labels }] as const;
      }),
    ),
  );
}

async function observePolicies(
  gcloud: Gcloud,
  layout: Layout,
  deployed: Found,
): Promise<Map<string, Policy>> {
  const isThere = ({ resource: { kind, name } }: Access): boolean => {
    switch (kind) {
      case 'bucket':
        return deployed.buckets.has(name);
      case 'queue':
        return deployed.queues.has(name);
      case 'account':
        return deployed.accounts.has(name);
      case 'secret':
        return deployed.secrets.has(name);
      case 'service':
        return deployed.runs.has(runKey('Service', name));
      case 'job':
        return deployed.runs.has(runKey('Job', name));
      case 'repository':
        return deployed.repository !== undefined;
    }
  };
  const there = [
    ...buildAccess(layout),
    ...serviceAccess(layout),
    ...callerAccess(layout),
    ...formerAccess(layout, deployed.secrets.keys()),
  ].filter(isThere);
  return new Map(
    await Promise.all(
      there.map(async ({ resource }) => {
        const policy = await gcloud.json<Policy>(...policyArguments(layout, resource, 'get-iam-policy'));
        return [keyOf(resource), policy] as const;
      }),
    ),
  );
}

/** An empty list is printed as one, or as nothing. */
async function list<T>(gcloud: Gcloud, ...args: string[]): Promise<T[]> {
  return (await gcloud.json<T[] | null>(...args)) ?? [];
}

export function lastPart(name = ''): string {
  return name.split('/').at(-1) ?? '';
}
