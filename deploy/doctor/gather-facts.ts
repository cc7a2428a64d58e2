import { Capabilities } from '../../core/capabilities.ts';
import { capabilitiesKey } from '../../core/objects.ts';
import {
  buildAccess,
  callerAccess,
  formerAccess,
  keyOf,
  memberOf,
  type Resource,
  serviceAccess,
  usesMistral,
  usesVertex,
  VERTEX_PERMISSIONS,
} from '../access.ts';
import { explain, withoutSecrets } from '../explain.ts';
import { type Gcloud, GcloudError } from '../gcloud.ts';
import type { Layout } from '../layout.ts';
import type { DeployedQueue, DeployedRun } from '../observe.ts';
import type { Policy } from '../policy.ts';
import { policyArguments } from '../policy-commands.ts';
import { type Facts, type OrgPolicy, type Seen, type StoreBucket, seen, unseen } from './facts.ts';

/** Organisation policies that something of ours could run into. */
export const ORG_POLICIES = [
  'run.managed.requireInvokerIam',
  'run.allowedIngress',
  'gcp.resourceLocations',
  'iam.disableServiceAccountCreation',
  'iam.allowedPolicyMemberDomains',
] as const;

/** Nothing of ours needs them, so they may be off. They cost nothing. */
export const DOCTOR_APIS = [
  'cloudbilling.googleapis.com',
  'cloudquotas.googleapis.com',
  'orgpolicy.googleapis.com',
] as const;
type DoctorApi = (typeof DOCTOR_APIS)[number];

interface QuotaInfo {
  quotaId?: string;
  metric?: string;
  dimensionsInfos?: {
    applicableLocations?: string[];
    dimensions?: Record<string, string>;
    details?: { value?: string | number };
  }[];
}

const HEALTH_TIMEOUT_MS = 10_000;

export interface GatherOptions {
  signal?: AbortSignal;
  /** Asks the deployed API whether it is alive. */
  ask?: (url: string, signal?: AbortSignal) => Promise<Seen<boolean>>;
  /** How Mistral is asked whether it takes the key. */
  fetchMistral?: typeof fetch;
}

/** Everything that the checks look at, in as few calls as there are kinds of things. Never rejects for what it may not see. */
export async function gatherFacts(
  gcloud: Gcloud,
  layout: Layout,
  { signal, ask = askWhetherAlive, fetchMistral = fetch }: GatherOptions = {},
): Promise<Facts> {
  const see = async <T>(read: () => Promise<T>): Promise<Seen<T>> => {
    try {
      return seen(await read());
    } catch (error) {
      if (!(error instanceof GcloudError)) throw error;
      return unseen(shortReason(error.output));
    }
  };
  const json = <T>(...args: string[]) => see(() => gcloud.json<T>(...args));
  const list = async <T>(...args: string[]) => map(await json<T[] | null>(...args), (value) => value ?? []);

  const apis = map(
    await list<{ config?: { name?: string } }>('services', 'list', '--enabled'),
    (all): ReadonlySet<string> => new Set(all.flatMap(({ config }) => config?.name ?? [])),
  );
  /** What belongs to an API that is off is not there; asking would be refused. */
  const where = async <T>(api: string, none: T, look: () => Promise<Seen<T>>): Promise<Seen<T>> =>
    apis.isSeen && !apis.value.has(api) ? seen(none) : await look();
  /** What only the doctor asks for. */
  const needing = async <T>(api: DoctorApi, look: () => Promise<Seen<T>>): Promise<Seen<T>> =>
    apis.isSeen && !apis.value.has(api)
      ? { isSeen: false, why: `the API ${api} is not enabled`, isToldElsewhere: true }
      : await look();

  const { region, project } = layout;
  const quotasOf = (service: string) =>
    needing('cloudquotas.googleapis.com', () =>
      list<QuotaInfo>('beta', 'quotas', 'info', 'list', `--service=${service}`),
    );
  const [
    version,
    account,
    billing,
    runQuotas,
    vertexQuotas,
    accounts,
    bucket,
    queues,
    secrets,
    services,
    jobs,
    images,
    orgPolicies,
  ] = await Promise.all([
    json<Record<string, string>>('version'),
    list<{ account?: string }>('auth', 'list', '--filter=status:ACTIVE'),
    json<{ billingEnabled?: boolean }>('billing', 'projects', 'describe', project.id),
    quotasOf('run.googleapis.com'),
    usesVertex(layout) ? quotasOf('aiplatform.googleapis.com') : seen<QuotaInfo[]>([]),
    where('iam.googleapis.com', [], () =>
      list<{ email: string; disabled?: boolean }>('iam', 'service-accounts', 'list'),
    ),
    where<StoreBucket[]>('storage.googleapis.com', [], () =>
      list('storage', 'buckets', 'list', '--raw', `--filter=name:${layout.bucket}`),
    ),
    where<DeployedQueue[]>('cloudtasks.googleapis.com', [], () =>
      list('tasks', 'queues', 'list', `--location=${region}`),
    ),
    where<{ name: string }[]>('secretmanager.googleapis.com', [], () => list('secrets', 'list')),
    where<DeployedRun[]>('run.googleapis.com', [], () =>
      list('run', 'services', 'list', `--region=${region}`),
    ),
    where<DeployedRun[]>('run.googleapis.com', [], () => list('run', 'jobs', 'list', `--region=${region}`)),
    where<{ package: string; tags?: string | string[] }[]>('artifactregistry.googleapis.com', [], () =>
      list(
        'artifacts',
        'docker',
        'images',
        'list',
        `${region}-docker.pkg.dev/${project.id}/${layout.repository}`,
        '--include-tags',
      ),
    ),
    Promise.all(
      ORG_POLICIES.map(
        async (name) =>
          [
            name,
            await needing('orgpolicy.googleapis.com', () =>
              json<OrgPolicy>('org-policies', 'describe', name, '--effective'),
            ),
          ] as const,
      ),
    ),
  ]);

  const runs = both(services, jobs, (a, b) => [
    ...a.map((run): DeployedRun => ({ ...run, kind: 'Service' })),
    ...b.map((run): DeployedRun => ({ ...run, kind: 'Job' })),
  ]);
  const ours = new Set(Object.values(layout.accounts));
  const facts: Omit<
    Facts,
    'policies' | 'capabilities' | 'mayUseVertex' | 'isMistralKeyTaken' | 'apiAnswers' | 'secrets'
  > = {
    gcloudVersion: map(version, (all) => all['Google Cloud SDK'] ?? 'unknown'),
    account: map(account, ([first]) => first?.account ?? ''),
    hasBilling: map(billing, ({ billingEnabled }) => billingEnabled === true),
    apis,
    runQuotas: map(runQuotas, (all) => limitsOf(all, region, ({ quotaId }) => quotaId)),
    vertexQuotas: map(vertexQuotas, (all) => vertexLimits(all, layout)),
    accounts: map(
      accounts,
      (all) =>
        new Map(
          all
            .filter(({ email }) => ours.has(email))
            .map(({ email, disabled }) => [email, { isDisabled: disabled === true }]),
        ),
    ),
    bucket: map(bucket, (all) => all.find(({ name }) => name === layout.bucket)),
    queues: map(queues, (all) => new Map(all.map((queue) => [lastPart(queue.name), queue]))),
    runs,
    images: map(images, (all) => new Set(all.flatMap(taggedNames))),
    orgPolicies: new Map(orgPolicies),
  };

  // What needs to know what there is.
  const wantedSecrets = new Set(
    Object.values(layout.environment.secrets).filter((name) => name !== undefined),
  );
  const [secretValues, policies, capabilities, mayUseVertex, apiAnswers] = await Promise.all([
    secrets.isSeen
      ? Promise.all(
          secrets.value
            .map(({ name }) => lastPart(name))
            .filter((name) => wantedSecrets.has(name))
            .map(async (name) => {
              const versions = await list(
                'secrets',
                'versions',
                'list',
                name,
                '--filter=state=ENABLED',
                '--limit=1',
              );
              return [name, { hasValue: map(versions, (all) => all.length > 0) }] as const;
            }),
        )
      : [],
    Promise.all(
      existing(layout, facts, secrets).map(async (resource) => {
        const policy = await json<Policy | null>(...policyArguments(layout, resource, 'get-iam-policy'));
        return [keyOf(resource), map(policy, (value) => value ?? {})] as const;
      }),
    ),
    Promise.all(
      // What Mistral's models can is known.
      layout.environment.backends
        .filter(({ kind }) => kind !== 'voxtral')
        .map(async ({ name }) => {
          const found = await where(
            'storage.googleapis.com',
            undefined,
            async () => await readCapabilities(gcloud, layout, facts.bucket, name),
          );
          return [name, found] as const;
        }),
    ),
    usesVertex(layout) && accounts.isSeen && accounts.value.length > 0
      ? see(async () => await isVertexAllowed(gcloud, layout))
      : undefined,
    askApi(layout, runs, async (url) => await ask(url, signal)),
  ]);
  const { mistralApiKey } = layout.environment.secrets;
  const mistralKey = new Map(secretValues).get(mistralApiKey ?? '')?.hasValue;
  const isMistralKeyTaken =
    mistralApiKey !== undefined && usesMistral(layout) && mistralKey?.isSeen && mistralKey.value
      ? await askMistral(gcloud, mistralApiKey, { fetchMistral, signal })
      : undefined;
  return {
    ...facts,
    isMistralKeyTaken,
    secrets: map(secrets, () => new Map(secretValues)),
    policies: new Map(policies),
    capabilities: new Map(capabilities),
    mayUseVertex,
    apiAnswers,
  };
}

async function readCapabilities(
  gcloud: Gcloud,
  layout: Layout,
  bucket: Facts['bucket'],
  backend: string,
): Promise<Seen<Capabilities | undefined>> {
  if (bucket.isSeen && bucket.value === undefined) return seen(undefined);
  try {
    const text = await gcloud.run({
      args: ['storage', 'cat', `gs://${layout.bucket}/${capabilitiesKey(backend)}`],
    });
    const result = Capabilities.safeParse(JSON.parse(text));
    return result.success ? seen(result.data) : unseen('what is stored there is of another version');
  } catch (error) {
    if (error instanceof SyntaxError) return unseen('what is stored there is no JSON');
    if (!(error instanceof GcloudError)) throw error;
    if (/matched no objects|not found|404/i.test(error.output)) return seen(undefined);
    return unseen(shortReason(error.output));
  }
}

/** A role of our own in the project: Vertex AI has no rights on single jobs. */
async function isVertexAllowed(gcloud: Gcloud, layout: Layout): Promise<boolean> {
  const { vertexRole, project } = layout;
  const [role, policy] = await Promise.all([
    gcloud.find<{ includedPermissions?: string[]; deleted?: boolean }>(
      'iam',
      'roles',
      'describe',
      vertexRole,
    ),
    gcloud.json<Policy | null>('projects', 'get-iam-policy', project.id),
  ]);
  const isGranted = policy?.bindings?.some(
    (one) =>
      one.role === `projects/${project.id}/roles/${vertexRole}` &&
      one.members.includes(memberOf(layout, 'cpu')),
  );
  const isWhole = VERTEX_PERMISSIONS.every((one) => role?.includedPermissions?.includes(one));
  return isGranted === true && isWhole && role?.deleted !== true;
}

async function askApi(
  layout: Layout,
  runs: Facts['runs'],
  ask: (url: string) => Promise<Seen<boolean>>,
): Promise<Seen<boolean> | undefined> {
  const api = runs.isSeen
    ? runs.value.find(({ kind, metadata }) => kind === 'Service' && metadata.name === layout.services.api)
    : undefined;
  const url = api?.status?.url;
  return url === undefined || layout.environment.api.access !== 'public' ? undefined : await ask(url);
}

async function askWhetherAlive(url: string, signal?: AbortSignal): Promise<Seen<boolean>> {
  const timeout = AbortSignal.timeout(HEALTH_TIMEOUT_MS);
  try {
    const { ok, body } = await fetch(`${url}/health/live`, {
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    });
    await body?.cancel();
    return seen(ok);
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    return unseen(`${url} cannot be reached from here (${(error as Error).message})`);
  }
}

const MISTRAL_MODELS = 'https://api.mistral.ai/v1/models';

/** By a list that costs nothing. The key goes from Secret Manager to Mistral, and is told nobody else. */
async function askMistral(
  gcloud: Gcloud,
  secret: string,
  { fetchMistral, signal }: { fetchMistral: typeof fetch; signal: AbortSignal | undefined },
): Promise<Seen<boolean>> {
  const timeout = AbortSignal.timeout(HEALTH_TIMEOUT_MS);
  try {
    const key = await gcloud.run({ args: ['secrets', 'versions', 'access', 'latest', `--secret=${secret}`] });
    const { ok, status, body } = await fetchMistral(MISTRAL_MODELS, {
      headers: { authorization: `Bearer ${key.trim()}` },
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    });
    await body?.cancel();
    if (ok) return seen(true);
    return status === 401 || status === 403 ? seen(false) : unseen(`Mistral answers with ${status}`);
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    if (error instanceof GcloudError) return unseen(shortReason(error.output));
    // Its message might quote the header.
    return unseen(`${MISTRAL_MODELS} cannot be reached from here`);
  }
}

/** The access lists of what is there; the rest has no policy to ask for. */
function existing(
  layout: Layout,
  {
    bucket,
    queues,
    accounts,
    runs,
    images,
  }: Pick<Facts, 'bucket' | 'queues' | 'accounts' | 'runs' | 'images'>,
  secrets: Seen<{ name: string }[]>,
): Resource[] {
  const has = <T>(fact: Seen<T>, test: (value: T) => boolean): boolean => fact.isSeen && test(fact.value);
  const hasRun = (kind: string, name: string) =>
    has(runs, (all) => all.some((run) => run.kind === kind && run.metadata.name === name));
  const isThere = ({ kind, name }: Resource): boolean => {
    switch (kind) {
      case 'bucket':
        return name === layout.bucket && has(bucket, (value) => value !== undefined);
      case 'queue':
        return has(queues, (all) => all.has(name));
      case 'account':
        return has(accounts, (all) => all.has(name));
      case 'secret':
        return has(secrets, (all) => all.some((secret) => lastPart(secret.name) === name));
      case 'service':
        return hasRun('Service', name);
      case 'job':
        return hasRun('Job', name);
      case 'repository':
        return has(images, (all) => all.size > 0);
    }
  };
  const all = [
    ...buildAccess(layout),
    ...serviceAccess(layout),
    ...callerAccess(layout),
    ...formerAccess(layout),
  ];
  return all.map(({ resource }) => resource).filter(isThere);
}

/** Limits in a region, under the name that `nameOf` gives a quota. */
function limitsOf(
  quotas: readonly QuotaInfo[],
  region: string,
  nameOf: (quota: QuotaInfo) => string | undefined,
): Map<string, number> {
  return new Map(
    quotas.flatMap((quota): [string, number][] => {
      const name = nameOf(quota);
      const infos = quota.dimensionsInfos ?? [];
      const info =
        infos.find(({ dimensions }) => dimensions?.region === region) ??
        infos.find(({ applicableLocations }) => applicableLocations?.includes(region));
      const value = info?.details?.value;
      return name === undefined || value === undefined ? [] : [[name, Number(value)]];
    }),
  );
}

function vertexLimits(quotas: readonly QuotaInfo[], layout: Layout): Map<string, number> {
  const regions = new Set(
    layout.environment.backends.flatMap((backend) =>
      backend.kind === 'vertex-job' ? [backend.location ?? layout.region] : [],
    ),
  );
  return new Map(
    [...regions].flatMap((region) => [
      ...limitsOf(quotas, region, ({ metric }) =>
        metric === undefined ? undefined : `${region} ${lastPart(metric)}`,
      ),
    ]),
  );
}

/** Older versions of gcloud print the tags as one text. */
function taggedNames({ package: name, tags = [] }: { package: string; tags?: string | string[] }): string[] {
  const all = typeof tags === 'string' ? tags.split(',') : tags;
  return all.map((tag) => `${name}:${tag.trim()}`);
}

/** Why something cannot be seen, in a line. */
function shortReason(output: string): string {
  const [known] = explain(output) ?? [];
  const line = /ERROR: .*/.exec(output)?.[0] ?? output.trim().split('\n')[0] ?? '';
  const said = withoutSecrets(line.replace(/^ERROR: \([\w.]+\) /, '')).slice(0, 300);
  return known === undefined || known.id === 'permission-denied' ? said : `${known.title}. ${said}`;
}

function map<A, B>(fact: Seen<A>, change: (value: A) => B): Seen<B> {
  return fact.isSeen ? seen(change(fact.value)) : fact;
}

function both<A, B, C>(a: Seen<A>, b: Seen<B>, join: (a: A, b: B) => C): Seen<C> {
  if (!a.isSeen) return a;
  if (!b.isSeen) return b;
  return seen(join(a.value, b.value));
}

function lastPart(name: string): string {
  return name.split('/').at(-1) ?? '';
}
