import { expect, test } from '@jest/globals';
import { imaginedDeployment } from './deployment.ts';
import { removals } from './down.ts';
import { loadEnvironment } from './environment.ts';
import { type Command, Gcloud } from './gcloud.ts';
import { observe } from './observe.ts';
import { planSteps } from './plan.ts';

const imagined = imaginedDeployment(await loadEnvironment('staging'), { PROJECT: 'my-project' });
const { layout } = imagined;
const NAME = 'zeroscribe-staging';
const LABEL = '--update-labels=zeroscribe-environment=staging --project=my-project';

/** Has what the beginnings of commands are answered with. */
class ProjectWith extends Gcloud {
  readonly #answers: Record<string, unknown>;

  constructor(answers: Record<string, unknown>) {
    super();
    this.#answers = answers;
  }

  override async run({ args }: Command): Promise<string> {
    const line = args.join(' ');
    if (line.startsWith('services list')) {
      const names = ['run', 'storage', 'artifactregistry', 'cloudtasks'];
      return JSON.stringify(names.map((name) => ({ config: { name: `${name}.googleapis.com` } })));
    }
    const answer = Object.entries(this.#answers).find(([start]) => line.startsWith(start))?.[1];
    return JSON.stringify(answer ?? (line.includes('get-iam-policy') ? {} : []));
  }
}

async function planIn(answers: Record<string, unknown>) {
  const deployed = await observe(new ProjectWith(answers), layout);
  return () => planSteps({ ...imagined, deployed });
}

test('what has a name of ours and was not made by us is not taken over, and how to hand it over is said', async () => {
  const plan = await planIn({
    'storage buckets list': [{ name: `my-project-${NAME}` }],
    'storage objects list': [{ name: 'theirs.txt' }],
    'artifacts repositories list': [{ name: `projects/p/locations/l/repositories/${NAME}` }],
    'run services list': [
      { metadata: { name: `${NAME}-api`, labels: { 'zeroscribe-environment': 'production' } } },
      { metadata: { name: 'another' } },
    ],
    'run jobs list': [{ metadata: { name: `${NAME}-gpu-job` } }],
  });
  for (const part of [
    `the bucket my-project-${NAME}, which has no label of ours`,
    `gcloud storage buckets update gs://my-project-${NAME} ${LABEL}`,
    `gcloud artifacts repositories update ${NAME} --location=europe-west1 ${LABEL}`,
    `the service ${NAME}-api, which is of the environment production`,
    `gcloud run services update ${NAME}-api --region=europe-west1 ${LABEL}`,
    `gcloud run jobs update ${NAME}-gpu-job --region=europe-west1 ${LABEL}`,
    'another prefix (or bucket), or hand them over',
  ]) {
    expect(plan).toThrow(part);
  }
  expect(plan).not.toThrow('another,');
});

test('a queue that the file does not name is ours when our accounts put tasks on it, and no other is touched', async () => {
  const policy = (email: string, role = 'roles/cloudtasks.enqueuer') => ({
    bindings: [{ role, members: [`serviceAccount:${email}`] }],
  });
  const queues = ['cpu', 'gpu', 'former', 'kept', 'two-cpu', 'seen', 'strange', 'old'];
  const deployed = await observe(
    new ProjectWith({
      'run services list': [
        {
          metadata: {
            name: `${NAME}-old`,
            labels: { 'zeroscribe-environment': 'staging', 'zeroscribe-backend': 'old' },
          },
        },
      ],
      'tasks queues list': [...queues.map((name) => `${NAME}-${name}`), 'zeroscribe-cpu'].map((name) => ({
        name: `projects/p/locations/l/queues/${name}`,
      })),
      [`tasks queues get-iam-policy ${NAME}-former`]: policy(layout.accounts.api),
      // Of an environment that was taken down with --keep-queues.
      [`tasks queues get-iam-policy ${NAME}-kept`]: {
        bindings: [
          {
            role: 'roles/cloudtasks.enqueuer',
            members: [`deleted:serviceAccount:${layout.accounts.api}?uid=1`],
          },
        ],
      },
      [`tasks queues get-iam-policy ${NAME}-two-cpu`]: policy(
        `${NAME}-two-api@my-project.iam.gserviceaccount.com`,
      ),
      [`tasks queues get-iam-policy ${NAME}-seen`]: policy(layout.accounts.api, 'roles/cloudtasks.viewer'),
    }),
    layout,
    { withPolicies: false },
  );
  expect(deployed.formerQueues).toEqual([`${NAME}-former`, `${NAME}-kept`]);
  const down = removals(layout, deployed, [], { deleteData: false, keepQueues: false }).flat();
  expect(down.map(({ title }) => title).filter((title) => title.startsWith('queue'))).toEqual(
    ['cpu', 'gpu', 'old', 'former', 'kept'].map((name) => `queue ${NAME}-${name}`),
  );
});

test('an empty bucket without any label is what an interrupted deployment leaves, and gets its label', async () => {
  const plan = await planIn({ 'storage buckets list': [{ name: `my-project-${NAME}` }] });
  const titles = plan().flatMap(({ changes }) => changes.map(({ title }) => title));
  expect(titles).toContain(`correct the bucket gs://my-project-${NAME}`);
});
