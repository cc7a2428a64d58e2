import { describe, expect, it, test } from '@jest/globals';
import { imaginedDeployment } from './deployment.ts';
import { loadEnvironment, parseEnvironment } from './environment.ts';
import { commandLine, Gcloud, timeoutMs } from './gcloud.ts';
import { toYaml } from './knative.ts';
import { manifests } from './manifests.ts';
import { type Deployed, type DeployedRun, NOTHING, runKey } from './observe.ts';
import { notes, planSteps, planText } from './plan.ts';
import { changedPolicy, policyChanges } from './policy.ts';
import { up } from './up.ts';

const staging = await loadEnvironment('staging');

function plan(env: NodeJS.ProcessEnv = { PROJECT: 'my-project' }, deployed: Partial<Deployed> = {}) {
  const imagined = imaginedDeployment(staging, env);
  const context = { ...imagined, deployed: { ...imagined.deployed, ...deployed } };
  return { context, steps: planSteps(context) };
}

function commandsOf(steps: ReturnType<typeof planSteps>): string[] {
  return steps.flatMap(({ changes }) => changes.flatMap(({ commands }) => commands.map(commandLine)));
}

describe('a first plan', () => {
  it('shows every command in an order in which each finds what it needs', () => {
    const commands = commandsOf(plan().steps);
    const at = (text: string) => {
      const index = commands.findIndex((command) => command.includes(text));
      if (index < 0) throw new Error(`no command has ${text}`);
      return index;
    };
    const order = [
      'services enable',
      'service-accounts create zeroscribe-staging-api',
      'artifacts repositories create',
      'artifacts repositories set-iam-policy',
      'builds submit',
      'run services replace zeroscribe-staging-gpu.yaml',
      'run services replace zeroscribe-staging-api.yaml',
      'run services set-iam-policy zeroscribe-staging-cpu',
    ].map(at);
    expect(order).toEqual(order.toSorted((a, b) => a - b));
  });

  it('grants nothing in the project but the role for Vertex AI, and nothing to everybody', () => {
    const commands = commandsOf(plan().steps);
    expect(commands.filter((command) => /gcloud projects add-iam/.test(command))).toEqual([
      expect.stringMatching(/--role=projects\/my-project\/roles\/zeroscribe_staging_vertex/),
    ]);
    const text = planText(plan().context.layout, plan().steps);
    expect(text).not.toMatch(/allUsers|allAuthenticatedUsers|compute@developer|roles\/(owner|editor)/);
    expect(text).toMatch(/rights on the account zeroscribe-staging-invoker@/);
  });

  it('shows no secret, and says what is missing', () => {
    const env = { PROJECT: 'my-project', HF_TOKEN: 'hf_secret' };
    const withToken = plan(env);
    const text = planText(withToken.context.layout, withToken.steps);
    expect(text).not.toMatch('hf_secret');
    expect(text).toMatch('--data-file=- --project=my-project  < $HF_TOKEN');
    expect(notes(withToken.context)).toEqual([]);
    expect(notes(plan().context)).toEqual([expect.stringMatching(/^HF_TOKEN is not set/)]);
  });

  it('shows the whole manifest of what is new', () => {
    const text = planText(plan().context.layout, plan().steps);
    expect(text).toMatch(
      /^ {4}\+ {7}nodeSelector:\n {4}\+ {9}run\.googleapis\.com\/accelerator: nvidia-l4$/m,
    );
  });

  it('names the project as a gap when nobody says which', () => {
    const { context, steps } = plan({});
    expect(planText(context.layout, steps)).toMatch(
      /^staging in the project PROJECT_ID, europe-west1: \d+ changes/,
    );
  });
});

it('lets the bucket forget by age what is left of uploads, of media and of accounts, and nothing else', () => {
  const files = plan()
    .steps.flatMap(({ changes }) => changes.flatMap(({ commands }) => commands))
    .find(
      ({ args }) => args.includes('gs://my-project-zeroscribe-staging') && args.includes('update'),
    )?.files;
  expect(JSON.parse(String(files?.['lifecycle.json']))).toEqual({
    rule: [
      [3, 'uploads/', 'upload-locks/'],
      [40, 'spend/', 'instances/'],
      [30, 'media/', 'idempotency/'],
    ].map(([age, ...matchesPrefix]) => ({
      action: { type: 'Delete' },
      condition: { age, matchesPrefix },
    })),
  });
});

describe('with Mistral’s API for the tier standard', () => {
  const { name, ...input } = staging;
  const withVoxtral = parseEnvironment(name, {
    ...input,
    backends: [...input.backends, { kind: 'voxtral', name: 'voxtral' }],
  });
  const given = { PROJECT: 'my-project', HF_TOKEN: 'x', MISTRAL_API_KEY: ' the-key\n' };
  const imagined = imaginedDeployment(withVoxtral, given);
  const cpu = imagined.layout.accounts.cpu;
  const SECRET = 'zeroscribe-staging-mistral-api-key';

  it('a plan has its queue, its secret and the right of cpu-service to sign for itself', () => {
    const steps = planSteps(imagined);
    const commands = commandsOf(steps);
    const text = planText(imagined.layout, steps);
    expect(commands[0]).toMatch(/services enable .*iamcredentials\.googleapis\.com/);
    expect(commands.filter((line) => / zeroscribe-staging-voxtral /.test(line))[0]).toMatch(
      /tasks queues create .* --max-concurrent-dispatches=4 --max-dispatches-per-second=1 /,
    );
    expect(commandsOf(planSteps(plan().context)).join('\n')).not.toMatch(
      /iamcredentials|mistral|voxtral|MISTRAL/,
    );
    const rights = steps
      .flatMap(({ changes }) => changes)
      .filter(({ title }) => title.startsWith('rights on'));
    const roleOf = (role: string) =>
      rights.filter(({ details = [] }) => details.some((line) => line.includes(role)));
    expect(roleOf('roles/iam.serviceAccountTokenCreator')).toMatchObject([
      {
        title: `rights on the account ${cpu}`,
        details: [`+ roles/iam.serviceAccountTokenCreator  serviceAccount:${cpu}`],
      },
    ]);
    expect(rights).toContainEqual(
      expect.objectContaining({
        title: `rights on the secret ${SECRET}`,
        details: [`+ roles/secretmanager.secretAccessor  serviceAccount:${cpu}`],
      }),
    );
    // The key goes to gcloud by its standard input and is nowhere else.
    expect(text).not.toMatch('the-key');
    expect(text).toMatch(`secrets create ${SECRET} `);
    expect(text).toMatch('--data-file=- --project=my-project  < $MISTRAL_API_KEY');
    const input = steps
      .flatMap(({ changes }) => changes.flatMap((change) => change.commands))
      .find(({ args }) => args[2] === SECRET)?.input;
    expect(input?.text()).toBe('the-key');
    expect(notes(imagined)).toEqual([]);
  });

  it('a plan without the key says what it takes, and `up` changes nothing', async () => {
    const without = imaginedDeployment(withVoxtral, { PROJECT: 'my-project', HF_TOKEN: 'x' });
    expect(notes(without)).toEqual([
      expect.stringMatching(
        /^The secret zeroscribe-staging-mistral-api-key has no value.* --mistral-key-stdin\. Or take the backend out of deploy\/environments\/staging\.ts\.$/,
      ),
    ]);
    planSteps(without);
    class Untouched extends Gcloud {
      override async run(): Promise<string> {
        throw new Error('something was changed');
      }
    }
    await expect(up({ ...without, gcloud: new Untouched() }, { say: () => {} })).rejects.toThrow(
      'give it to `up` once',
    );
    const secrets = new Map([[SECRET, { hasValue: true, labels: {} }]]);
    expect(notes({ ...without, deployed: { ...NOTHING, secrets } })).toEqual([]);
  });

  it('takes rights and queue back when the last such backend has left, after the services that used them', () => {
    const { context } = plan({ PROJECT: 'my-project' });
    const policyOf = (role: string) => ({ bindings: [{ role, members: [`serviceAccount:${cpu}`] }] });
    const deployed: Deployed = {
      ...context.deployed,
      secrets: new Map([[SECRET, { hasValue: true, labels: {} }]]),
      formerQueues: ['zeroscribe-staging-voxtral'],
      policies: new Map([
        [`account ${cpu}`, policyOf('roles/iam.serviceAccountTokenCreator')],
        [`secret ${SECRET}`, policyOf('roles/secretmanager.secretAccessor')],
      ]),
    };
    const last = planSteps({ ...context, deployed }).at(-1);
    expect(last?.changes.map(({ title, details = [] }) => [title, ...details])).toEqual([
      [`rights on the secret ${SECRET}`, `- roles/secretmanager.secretAccessor  serviceAccount:${cpu}`],
      [`rights on the account ${cpu}`, `- roles/iam.serviceAccountTokenCreator  serviceAccount:${cpu}`],
      ['remove the queue zeroscribe-staging-voxtral'],
    ]);
    expect(planSteps(context).at(-1)?.changes).toEqual([]);
    // While it is there, nothing of it is taken.
    const still = planSteps({ ...imagined, deployed: { ...deployed, formerQueues: [] } });
    expect(still.at(-1)?.changes).toEqual([]);
  });
});

describe('a plan of what is deployed', () => {
  const layout = plan().context.layout;

  function deployed(change: (run: DeployedRun) => void = () => {}): Map<string, DeployedRun> {
    return new Map(
      manifests(layout).map((manifest) => {
        const run = {
          ...structuredClone(manifest),
          status: { conditions: [{ type: 'Ready', status: 'True' }] },
        } as DeployedRun;
        // What Google adds is nobody's change.
        run.metadata.annotations = { ...run.metadata.annotations, 'serving.knative.dev/creator': 'me' };
        change(run);
        return [runKey(manifest.kind, manifest.metadata.name), run];
      }),
    );
  }

  const changesOf = (runs: Map<string, DeployedRun>) =>
    plan({ PROJECT: 'my-project' }, { runs })
      .steps.flatMap(({ changes }) => changes)
      .filter(({ title }) => title.startsWith('deploy'));

  it('has no change where all is the same', () => {
    expect(changesOf(deployed())).toEqual([]);
  });

  it('has no change where Google leaves out its defaults and counts processors in thousandths', () => {
    const runs = deployed((run) => {
      // biome-ignore lint/suspicious/noExplicitAny: a deep shape of Google's
      const spec = run.spec as any;
      delete spec.template.metadata.annotations['autoscaling.knative.dev/minScale'];
      const { limits } = (spec.template.spec.template ?? spec.template).spec.containers[0].resources;
      limits.cpu = `${limits.cpu}000m`;
    });
    expect(changesOf(runs)).toEqual([]);
  });

  it('shows that somebody has switched off the check of callers, which Google does not repeat while it is on', () => {
    const key = 'run.googleapis.com/invoker-iam-disabled';
    const withCheck = (value?: string) =>
      deployed(({ metadata }) => {
        if (metadata.name !== 'zeroscribe-staging-cpu') return;
        metadata.annotations = { ...metadata.annotations };
        if (value === undefined) delete metadata.annotations[key];
        else metadata.annotations[key] = value;
      });
    expect(changesOf(withCheck())).toEqual([]);
    expect(changesOf(withCheck('true')).flatMap(({ details }) => details)).toEqual([
      `- metadata.annotations.${key}: true`.replace('metadata.', ''),
      `+ metadata.annotations.${key}: false`.replace('metadata.', ''),
    ]);
  });

  it('takes the rights at Vertex AI back when no backend is there any more', () => {
    const backends = staging.backends.filter(({ kind }) => kind !== 'vertex-job');
    const imagined = imaginedDeployment({ ...staging, backends }, { PROJECT: 'my-project' });
    const { vertexRole, accounts } = imagined.layout;
    const cpu = `serviceAccount:${accounts.cpu}`;
    const deployed: Deployed = {
      ...imagined.deployed,
      vertexRole: {},
      projectPolicy: { bindings: [{ role: `projects/my-project/roles/${vertexRole}`, members: [cpu] }] },
      policies: new Map([
        [`account ${accounts.gpu}`, { bindings: [{ role: 'roles/iam.serviceAccountUser', members: [cpu] }] }],
      ]),
    };
    const steps = planSteps({ ...imagined, deployed });
    const text = commandsOf(steps).join('\n');
    expect(text).toMatch(/projects remove-iam-policy-binding my-project .*\n.*iam roles delete/);
    expect(steps.flatMap(({ changes }) => changes)).toContainEqual(
      expect.objectContaining({
        title: `rights on the account ${accounts.gpu}`,
        details: [`- roles/iam.serviceAccountUser  ${cpu}`],
      }),
    );
    const clean = commandsOf(
      planSteps({ ...imagined, deployed: { ...deployed, vertexRole: { deleted: true }, projectPolicy: {} } }),
    );
    expect(clean.join('\n')).not.toMatch(/iam roles|projects remove/);
  });

  it('is a diff of what differs, also of what was taken away', () => {
    const runs = deployed((run) => {
      if (run.metadata.name !== 'zeroscribe-staging-gpu') return;
      // biome-ignore lint/suspicious/noExplicitAny: a deep shape of Google's
      const spec = run.spec as any;
      spec.template.spec.containers[0].resources.limits.memory = '32Gi';
      spec.template.spec.containers[0].env.push({ name: 'OLD', value: 'gone' });
    });
    expect(changesOf(runs).map(({ title, details }) => ({ title, details }))).toEqual([
      {
        title: 'deploy the service zeroscribe-staging-gpu again',
        details: [
          '- spec.template.spec.containers.0.resources.limits.memory: 32Gi',
          '+ spec.template.spec.containers.0.resources.limits.memory: 16Gi',
          '- spec.template.spec.containers.0.env.OLD: gone',
        ],
      },
    ]);
  });

  it('sees what the hash of a manifest says and no field does, and a deployment that failed', () => {
    const stale = deployed((run) => {
      run.metadata.labels = { ...run.metadata.labels, 'zeroscribe-manifest': 'older' };
    });
    expect(changesOf(stale)).toHaveLength(4);
    const failed = deployed((run) => {
      run.status = { conditions: [{ type: 'Ready', status: 'False' }] };
    });
    expect(changesOf(failed).map(({ details }) => details)).toEqual(
      Array(4).fill(['its last deployment did not succeed']),
    );
  });

  it('names what is deployed and no longer wanted', () => {
    const runs = deployed();
    const old = structuredClone([...runs.values()][0]) as DeployedRun;
    old.metadata.name = 'zeroscribe-staging-old';
    runs.set(runKey('Service', old.metadata.name), old);
    old.metadata.labels = { ...old.metadata.labels, 'zeroscribe-backend': 'old' };
    const name = 'zeroscribe-staging-old';
    const { context } = plan(
      { PROJECT: 'my-project', HF_TOKEN: 'x' },
      { runs, queues: new Map([[name, { name }]]) },
    );
    expect(notes(context)).toEqual([
      expect.stringMatching(
        /zeroscribe-staging-old is deployed but no longer .* gcloud run services delete .* gcloud tasks queues delete zeroscribe-staging-old /,
      ),
    ]);
  });

  it('writes manifests without aliases, which gcloud would not read', () => {
    for (const manifest of manifests(layout)) expect(toYaml(manifest)).not.toMatch(/[&*]a\d/);
  });
});

test('what may take long at Google is waited for longer', () => {
  const minutes = (line: string) => timeoutMs({ args: line.split(' ') }) / 60_000;
  expect(minutes('run services replace x.yaml')).toBe(60);
  expect(minutes('run jobs replace x.yaml')).toBe(60);
  expect(minutes('storage rm gs://x --recursive')).toBe(60);
  expect(minutes('run services list')).toBe(10);
});

describe('a policy', () => {
  const ours = new Set(['serviceAccount:us']);
  const wanted = [{ role: 'roles/storage.objectUser', member: 'serviceAccount:us' }];

  it('loses what our accounts had before, and keeps what others were given', () => {
    const policy = {
      etag: 'x',
      bindings: [
        { role: 'roles/owner', members: ['user:somebody', 'serviceAccount:us'] },
        { role: 'roles/storage.objectUser', members: ['deleted:serviceAccount:us?uid=1'] },
        { role: 'roles/viewer', members: ['user:somebody'], condition: { expression: 'true' } },
      ],
    };
    const changes = policyChanges(policy, wanted, ours);
    expect(changedPolicy(policy, changes)).toEqual({
      etag: 'x',
      bindings: [
        { role: 'roles/owner', members: ['user:somebody'] },
        { role: 'roles/storage.objectUser', members: ['serviceAccount:us'] },
        { role: 'roles/viewer', members: ['user:somebody'], condition: { expression: 'true' } },
      ],
    });
    expect(policyChanges(changedPolicy(policy, changes), wanted, ours)).toEqual({ added: [], removed: [] });
  });

  it('lets nobody else call a private service', () => {
    const policy = { bindings: [{ role: 'roles/run.invoker', members: ['allUsers'] }] };
    expect(policyChanges(policy, [], ours).removed).toEqual([
      { role: 'roles/run.invoker', member: 'allUsers' },
    ]);
  });
});
