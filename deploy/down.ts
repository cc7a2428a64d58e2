import { memberOf, usesVertex } from './access.ts';
import type { Command, Gcloud } from './gcloud.ts';
import { ACCOUNT_ROLES, BACKEND_LABEL, ENVIRONMENT_LABEL, type Layout } from './layout.ts';
import { type Deployed, lastPart, queueOf } from './observe.ts';
import { runningVertexJobs, type VertexJob } from './status.ts';

export interface Removal {
  title: string;
  command: Command;
}

export interface DownOptions {
  /** Recordings and transcripts too. */
  deleteData: boolean;
  /** The name of a deleted queue cannot be used again for some days. */
  keepQueues: boolean;
}

/**
 * What is to be removed, in groups of which each needs the one before it: only what carries the environment's label,
 * or, where Google has no labels, has one of its names.
 */
export function removals(
  layout: Layout,
  deployed: Deployed,
  vertexJobs: readonly VertexJob[],
  { deleteData, keepQueues }: DownOptions,
): Removal[][] {
  const { region, environment } = layout;
  const isOurs = ({ labels = {} }: { labels?: Record<string, string> }) =>
    labels[ENVIRONMENT_LABEL] === environment.name;
  const runs = [...deployed.runs.values()];
  const removal = (title: string, ...args: string[]): Removal => ({ title, command: { args } });

  const queueNames = new Set([
    layout.queues.cpu,
    ...Object.values(layout.queues.backends),
    // Of backends that have left the file since.
    ...runs.flatMap(({ metadata }) => {
      const backend = metadata.labels?.[BACKEND_LABEL];
      return backend === undefined ? [] : [queueOf(layout, backend)];
    }),
    ...deployed.formerQueues,
  ]);
  const buckets = [layout.buildBucket, ...(deleteData ? [layout.bucket] : [])]
    .map((name) => deployed.buckets.get(name))
    .filter((bucket) => bucket !== undefined && isOurs(bucket));
  const role = `projects/${layout.project.id}/roles/${layout.vertexRole}`;
  const member = memberOf(layout, 'cpu');
  const isGranted = deployed.projectPolicy?.bindings?.some(
    (binding) => binding.role === role && binding.members.includes(member),
  );
  return [
    vertexJobs.map(({ name }) =>
      removal(
        `Vertex AI job ${lastPart(name)}`,
        ...['ai', 'custom-jobs', 'cancel', lastPart(name), `--region=${name.split('/')[3] ?? region}`],
      ),
    ),
    runs.map(({ kind, metadata: { name } }) =>
      removal(
        `${kind.toLowerCase()} ${name}`,
        ...['run', kind === 'Job' ? 'jobs' : 'services', 'delete', name, `--region=${region}`],
      ),
    ),
    [
      ...(keepQueues ? [] : [...queueNames].filter((name) => deployed.queues.has(name))).map((name) =>
        removal(`queue ${name}`, 'tasks', 'queues', 'delete', name, `--location=${region}`),
      ),
      ...[...deployed.secrets]
        .filter(([, secret]) => isOurs(secret))
        .map(([name]) => removal(`secret ${name}`, 'secrets', 'delete', name)),
      ...(deployed.repository !== undefined && isOurs(deployed.repository)
        ? [
            removal(
              `images in ${layout.repository}`,
              ...['artifacts', 'repositories', 'delete', layout.repository, `--location=${region}`],
            ),
          ]
        : []),
      ...buckets.flatMap((bucket) =>
        bucket === undefined
          ? []
          : [
              removal(
                `bucket gs://${bucket.name}${bucket.name === layout.bucket ? ' with all recordings and transcripts' : ''}`,
                ...['storage', 'rm', `gs://${bucket.name}`, '--recursive'],
              ),
            ],
      ),
    ],
    isGranted
      ? [
          removal(
            'right of cpu-service in the project',
            ...['projects', 'remove-iam-policy-binding', layout.project.id],
            ...[`--member=${member}`, `--role=${role}`, '--condition=None'],
          ),
        ]
      : [],
    [
      ...(deployed.vertexRole !== undefined && deployed.vertexRole.deleted !== true
        ? [removal(`role ${layout.vertexRole}`, 'iam', 'roles', 'delete', layout.vertexRole)]
        : []),
      ...ACCOUNT_ROLES.map((one) => layout.accounts[one])
        .filter((email) => deployed.accounts.has(email))
        .map((email) => removal(`account ${email}`, 'iam', 'service-accounts', 'delete', email)),
    ],
  ].filter((group) => group.length > 0);
}

export async function findRemovals(
  { gcloud, layout, deployed }: { gcloud: Gcloud; layout: Layout; deployed: Deployed },
  options: DownOptions,
): Promise<Removal[][]> {
  // Those of a backend that has left the file since are under way too.
  const mayRun = usesVertex(layout) || deployed.vertexRole !== undefined;
  const jobs =
    mayRun && deployed.apis.has('aiplatform.googleapis.com') ? await runningVertexJobs(gcloud, layout) : [];
  return removals(layout, deployed, jobs, options);
}

export async function remove(
  gcloud: Gcloud,
  groups: readonly Removal[][],
  say: (line: string) => void,
): Promise<void> {
  for (const group of groups) {
    const results = await Promise.allSettled(
      group.map(async ({ title, command }) => {
        await gcloud.run(command);
        say(`removed: ${title}`);
      }),
    );
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }
}

/** What is left on purpose. */
export function leftBehind(
  layout: Layout,
  deployed: Deployed,
  { deleteData, keepQueues }: DownOptions,
): string[] {
  return [
    ...(!deleteData && deployed.buckets.has(layout.bucket)
      ? [`gs://${layout.bucket} with all recordings and transcripts: --delete-data removes it too.`]
      : []),
    ...(keepQueues ? ['the queues, which cost nothing.'] : []),
    'the APIs, which may be in use by others and cost nothing.',
  ];
}
