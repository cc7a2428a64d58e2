import type { AccountRole, Layout } from './layout.ts';
import type { Grant } from './policy.ts';

/** Something that has an IAM policy of its own. */
export interface Resource {
  kind: 'bucket' | 'queue' | 'account' | 'secret' | 'service' | 'job' | 'repository';
  name: string;
}

export interface Access {
  resource: Resource;
  grants: Grant[];
}

export function keyOf({ kind, name }: Resource): string {
  return `${kind} ${name}`;
}

export function memberOf(layout: Layout, role: AccountRole): string {
  return `serviceAccount:${layout.accounts[role]}`;
}

/** The members that only we hand out rights to. */
export function ourMembers(layout: Layout): Set<string> {
  return new Set(Object.values(layout.accounts).map((email) => `serviceAccount:${email}`));
}

/** What the account that builds images needs. */
export function buildAccess(layout: Layout): Access[] {
  const build = memberOf(layout, 'build');
  const { hfToken } = layout.environment.secrets;
  return [
    {
      resource: { kind: 'repository', name: layout.repository },
      grants: [{ role: 'roles/artifactregistry.writer', member: build }],
    },
    {
      // Sources and logs; the latter want to know the bucket itself. It holds nothing else.
      resource: { kind: 'bucket', name: layout.buildBucket },
      grants: [{ role: 'roles/storage.admin', member: build }],
    },
    ...(hfToken === undefined
      ? []
      : [{ resource: { kind: 'secret' as const, name: hfToken }, grants: [accessor(build)] }]),
  ];
}

/** What the services' accounts need of everything but the services. */
export function serviceAccess(layout: Layout): Access[] {
  const [api, cpu, gpu] = (['api', 'cpu', 'gpu'] as const).map((role) => memberOf(layout, role)) as [
    string,
    string,
    string,
  ];
  const { secrets, backends } = layout.environment;
  const startsAsGpu = backends.some(({ kind }) => kind === 'vertex-job');
  return [
    {
      resource: { kind: 'bucket', name: layout.bucket },
      grants: [api, cpu, gpu].map((member) => ({ role: 'roles/storage.objectUser', member })),
    },
    // On every queue: a continuation goes to the queue of its backend, what starts a run to that of cpu-service.
    ...[layout.queues.cpu, ...Object.values(layout.queues.backends)].map(
      (name): Access => ({
        resource: { kind: 'queue', name },
        grants: [
          ...[api, cpu, gpu].flatMap((member) => [
            { role: 'roles/cloudtasks.enqueuer', member },
            // For GetTask.
            { role: 'roles/cloudtasks.viewer', member },
          ]),
          // Those who cancel.
          ...[api, cpu].map((member) => ({ role: 'roles/cloudtasks.taskDeleter', member })),
        ],
      }),
    ),
    {
      // Whoever makes a task must be allowed to act as the account in whose name it is brought.
      resource: { kind: 'account', name: layout.accounts.invoker },
      grants: [api, cpu, gpu].map(actor),
    },
    // Whoever makes a Vertex AI job must be allowed to act as the account that it runs as.
    // Where nobody does, it is looked at too, so that the right goes when the last such backend has.
    {
      resource: { kind: 'account', name: layout.accounts.gpu },
      grants: startsAsGpu ? [actor(cpu)] : [],
    },
    ...[secrets.apiKeys, secrets.urlSigningKey].map(
      (name): Access => ({ resource: { kind: 'secret', name }, grants: [accessor(api)] }),
    ),
    ...(usesMistral(layout) ? mistralAccess(layout) : []),
  ];
}

/** What cpu-service needs to have Mistral's API do a job. */
function mistralAccess(layout: Layout): Access[] {
  const cpu = memberOf(layout, 'cpu');
  const { mistralApiKey } = layout.environment.secrets;
  return [
    ...(mistralApiKey === undefined
      ? []
      : [{ resource: { kind: 'secret' as const, name: mistralApiKey }, grants: [accessor(cpu)] }]),
    {
      // Mistral fetches recordings by links that cpu-service signs. It has no key, so Google signs in its name: on
      // itself alone the role gives it nothing that it is not already.
      resource: { kind: 'account', name: layout.accounts.cpu },
      grants: [{ role: 'roles/iam.serviceAccountTokenCreator', member: cpu }],
    },
  ];
}

/**
 * Where our accounts are to have nothing left, because no backend needs it any more. Taken away only when the services
 * run that do without: an instance that may not read its secret does not start.
 */
export function formerAccess(layout: Layout, secretNames: Iterable<string> = []): Access[] {
  const named = Object.values(layout.environment.secrets);
  const nowhereNamed = [...secretNames]
    .filter((name) => !named.includes(name))
    .map((name) => ({ kind: 'secret' as const, name }));
  const ofMistral = usesMistral(layout) ? [] : mistralAccess(layout).map(({ resource }) => resource);
  return [...ofMistral, ...nowhereNamed].map((resource) => ({ resource, grants: [] }));
}

/** Who may call the services and run the jobs. */
export function callerAccess(layout: Layout): Access[] {
  const invoker = { role: 'roles/run.invoker', member: memberOf(layout, 'invoker') };
  const { api, backends } = layout.environment;
  return [
    { resource: { kind: 'service', name: layout.services.cpu }, grants: [invoker] },
    ...backends.flatMap((backend): Access[] => {
      const name = layout.backendName(backend);
      if (backend.kind === 'cloud-run-service') {
        return [{ resource: { kind: 'service', name }, grants: [invoker] }];
      }
      if (backend.kind !== 'cloud-run-job') return [];
      const member = memberOf(layout, 'cpu');
      return [
        {
          resource: { kind: 'job', name },
          grants: [
            // Runs it with a task and cancels executions, but cannot change the job.
            { role: 'roles/run.jobsExecutorWithOverrides', member },
            // Counts executions and looks them up.
            { role: 'roles/run.viewer', member },
          ],
        },
      ];
    }),
    {
      resource: { kind: 'service', name: layout.services.api },
      // A public API checks no caller: see its annotation.
      grants: api.invokers.map((member) => ({ role: 'roles/run.invoker', member })),
    },
  ];
}

/** Vertex AI has no permissions on single jobs, so these are the only ones in the project. */
export const VERTEX_PERMISSIONS = [
  'aiplatform.customJobs.cancel',
  'aiplatform.customJobs.create',
  'aiplatform.customJobs.get',
  'aiplatform.customJobs.list',
];

export function usesMistral(layout: Layout): boolean {
  return layout.environment.backends.some(({ kind }) => kind === 'voxtral');
}

export function usesVertex(layout: Layout): boolean {
  return layout.environment.backends.some(({ kind }) => kind === 'vertex-job');
}

function accessor(member: string): Grant {
  return { role: 'roles/secretmanager.secretAccessor', member };
}

function actor(member: string): Grant {
  return { role: 'roles/iam.serviceAccountUser', member };
}
