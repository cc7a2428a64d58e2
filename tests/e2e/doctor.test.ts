import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { REPOSITORY_ROOT } from '../../core/installation.ts';
import { type Deployment, openDeployment } from '../../deploy/deployment.ts';
import { seen } from '../../deploy/doctor/facts.ts';
import type { Finding } from '../../deploy/doctor/finding.ts';
import { fixesOf, type Report } from '../../deploy/doctor/report.ts';
import { examinePlace, runFixes } from '../../deploy/doctor/run-doctor.ts';
import { loadEnvironment, parseEnvironment } from '../../deploy/environment.ts';
import { explain } from '../../deploy/explain.ts';
import { GcloudError } from '../../deploy/gcloud.ts';
import { planSteps } from '../../deploy/plan.ts';
import { up } from '../../deploy/up.ts';
import { accountName } from '../support/fake-google-cloud/cloud-state.ts';
import {
  type FakeGoogleCloud,
  startFakeGoogleCloud,
} from '../support/fake-google-cloud/fake-google-cloud.ts';
import { startWarmGcloud, type WarmGcloud } from '../support/fake-google-cloud/warm-gcloud.ts';
import { hasGcloud } from '../support/gcloud-linter.ts';
import { runCli } from '../support/run-cli.ts';

const isThere = await hasGcloud();
if (!isThere) console.info('skipped: there is no gcloud here for the doctor to ask');

const PROJECT = 'my-project';
const GPU = 'zeroscribe-staging-gpu';
const JOB = 'zeroscribe-staging-gpu-job';
const GIB = 1024 ** 3;
const TIMEOUT_MS = 5 * 60_000;
const MISTRAL_KEY = 'a-key-of-the-tests';
const { name, ...staging } = await loadEnvironment('staging');
/** With the line that its file has in a comment. */
const withVoxtral = parseEnvironment(name, {
  ...staging,
  backends: [...staging.backends, { kind: 'voxtral', name: 'voxtral' }],
});

function troubles({ checks }: Report): [Finding['level'], string][] {
  return checks
    .flatMap(({ findings }) => findings)
    .filter(({ level }) => level !== 'ok')
    .map(({ level, what }) => [level, what]);
}

describe('npm run deploy -- doctor --explain', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'zeroscribe-explain-'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true });
  });

  async function explained(text: string) {
    const file = join(folder, 'error.txt');
    await writeFile(file, text);
    // Neither gcloud nor an account is needed.
    const env = { PATH: folder };
    return await runCli(['deploy', 'doctor', '--explain', file], { cwd: folder, env }).ended;
  }

  test('tells cause, fix and command of a known error', async () => {
    const { code, stdout, stderr } = await explained(
      'Currently Cloud Run jobs are unable to offer GPU enabled instances with zonal redundancy due to capacity limitations.',
    );
    expect(stderr).toBe('');
    expect(stdout).toMatch(
      /^A job with a GPU cannot have zonal redundancy\n {2}why: .+\n {2}fix: Decline it: .+\n {4}\$ npm run deploy -- up\n/,
    );
    expect(code).toBe(0);
  });

  test('shows an unknown one whole', async () => {
    const { code, stdout, stderr } = await explained('ERROR: something new\nof two lines');
    expect(stdout).toContain('ERROR: something new\nof two lines\n');
    expect(stderr).toBe('error: This error is unknown.\n');
    expect(code).toBe(1);
  });

  test('says what is wrong with a file that is not there', async () => {
    const run = runCli(['deploy', 'doctor', '--explain', 'nothing.txt'], { cwd: folder });
    const { code, stderr } = await run.ended;
    expect(stderr).toContain('nothing.txt cannot be read (ENOENT)');
    expect(code).toBe(2);
  });
});

(isThere ? describe : describe.skip)('npm run deploy -- doctor, with the real gcloud', () => {
  let gcloud: WarmGcloud;

  beforeAll(async () => {
    gcloud = await startWarmGcloud();
  }, 300_000);

  afterAll(async () => {
    await gcloud?.stop();
  });

  /** A project with the quotas of a new one. */
  async function startProject(): Promise<FakeGoogleCloud> {
    const cloud = await startFakeGoogleCloud(PROJECT);
    const { enabledApis, quotas } = cloud.state;
    for (const api of ['cloudbilling', 'cloudquotas', 'orgpolicy']) enabledApis.add(`${api}.googleapis.com`);
    quotas.set('run.googleapis.com/NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion', 3);
    quotas.set('run.googleapis.com/MemAllocPerProjectRegion', 40 * GIB);
    quotas.set('run.googleapis.com/CpuAllocPerProjectRegion', 20_000);
    quotas.set('aiplatform.googleapis.com/custom_model_training_preemptible_nvidia_l4_gpus', 1);
    return cloud;
  }

  const environmentFor = (cloud: FakeGoogleCloud) => ({ ...cloud.env, ...gcloud.env, PROJECT });

  test(
    'before the first deploy it names what would refuse it',
    async () => {
      const cloud = await startProject();
      await using _ = { [Symbol.asyncDispose]: () => cloud.stop() };
      cloud.state.orgPolicies.set('run.managed.requireInvokerIam', [{ enforce: true }]);
      cloud.state.quotas.set('run.googleapis.com/MemAllocPerProjectRegion', 12 * GIB);
      cloud.state.hasBilling = false;
      cloud.fail({
        matches: ({ path }) => path.includes('gcp.resourceLocations'),
        status: 403,
        code: 'PERMISSION_DENIED',
        message: "Permission 'orgpolicy.policy.get' denied on resource (or it may not exist).",
      });
      const env = environmentFor(cloud);
      const { code, stdout, stderr } = await runCli(['deploy', 'doctor'], { cwd: REPOSITORY_ROOT, env })
        .ended;
      const problems = [...stdout.matchAll(/^ {2}PROBLEM {2}(.*)$/gm)].map(([, what]) => what);
      expect(problems).toEqual([
        'my-project has no open billing account',
        'the organisation wants every caller of a service checked',
        `${GPU} may take 16 GiB at once, and the project has 12 GiB in europe-west1`,
        `${JOB} may take 16 GiB at once, and the project has 12 GiB in europe-west1`,
      ]);
      expect(stdout).toContain(
        `$ gcloud beta quotas preferences create --service=run.googleapis.com --quota-id=MemAllocPerProjectRegion --preferred-value=${16 * GIB} --dimensions=region=europe-west1 --project=${PROJECT}`,
      );
      // What may not be looked at is a warning that says what.
      expect(stdout).toMatch(
        / {2}warning {2}The policy gcp\.resourceLocations could not be seen\n {11}why: .*orgpolicy\.policy\.get/,
      );
      expect(stderr).toMatch(/^Looking …\nerror: 4 problems, \d warnings?, \d+ ok\n$/);
      expect(code).toBe(1);
    },
    TIMEOUT_MS,
  );

  describe('once it is deployed', () => {
    let cloud: FakeGoogleCloud;
    /** As it was seen when there was nothing. */
    let first: Deployment;

    beforeAll(async () => {
      cloud = await startProject();
      first = await openDeployment(withVoxtral, {
        env: { PROJECT, MISTRAL_API_KEY: MISTRAL_KEY },
        gcloud: { env: environmentFor(cloud) },
      });
      await up(first, { say: () => {}, pauseMs: 1 });
    }, TIMEOUT_MS);

    afterAll(async () => {
      await cloud?.stop();
    });

    /** What Mistral would answer: it knows one key. */
    const fetchMistral: typeof fetch = async (url, { headers } = {}) => {
      expect(url).toBe('https://api.mistral.ai/v1/models');
      const isKnown = new Headers(headers).get('authorization') === `Bearer ${MISTRAL_KEY}`;
      return isKnown
        ? Response.json({ data: [] })
        : Response.json({ detail: 'Unauthorized' }, { status: 401 });
    };

    async function examined(): Promise<Report> {
      return await examinePlace(first, { ask: async () => seen(true), fetchMistral });
    }

    /** What is so from the beginning and no matter of these tests. */
    const USUAL: [Finding['level'], string] = ['warning', 'zeroscribe-staging-hf-token has no value'];

    test(
      'nothing is wrong; what is broken by hand is found and put right by --fix',
      async () => {
        expect(troubles(await examined())).toEqual([USUAL]);

        const queue = cloud.state.get(`projects/${PROJECT}/locations/europe-west1/queues/${GPU}`);
        queue.rateLimits.maxConcurrentDispatches = 1_000;
        queue.retryConfig.maxAttempts = 100;
        const bucket = cloud.state.get(`buckets/${first.layout.bucket}`);
        bucket.iamConfiguration.publicAccessPrevention = 'inherited';
        cloud.state.setPolicy(`services/${GPU}`, {
          bindings: [{ role: 'roles/run.invoker', members: ['allUsers'] }],
        });
        const voxtral = `projects/${PROJECT}/locations/europe-west1/queues/zeroscribe-staging-voxtral`;
        cloud.state.get(voxtral).rateLimits.maxDispatchesPerSecond = 500;
        const { accounts } = first.layout;
        cloud.state.setPolicy(accountName(accounts.cpu), {});
        const secret = `projects/${PROJECT}/secrets/zeroscribe-staging-mistral-api-key`;
        const [version] = cloud.state.list(`${secret}/versions/`);
        version.payload = { data: Buffer.from('of somebody else').toString('base64') };
        const report = await examined();
        expect(troubles(report)).toEqual([
          ['problem', `gs://${first.layout.bucket} can be made public`],
          ['problem', `${GPU} brings 1000 tasks at a time, and there can be instances for 1`],
          ['problem', `${GPU} gives tasks up`],
          ['warning', 'zeroscribe-staging-voxtral brings 500 tasks a second'],
          USUAL,
          ['problem', 'Mistral refuses the key in zeroscribe-staging-mistral-api-key'],
          [
            'problem',
            `serviceAccount:${accounts.cpu} lacks roles/iam.serviceAccountTokenCreator on the account ${accounts.cpu}`,
          ],
          [
            'problem',
            `serviceAccount:${first.layout.accounts.invoker} lacks roles/run.invoker on the service ${GPU}`,
          ],
          ['problem', `allUsers has roles/run.invoker on the service ${GPU}`],
        ]);

        const told: string[] = [];
        await runFixes(first.gcloud, fixesOf(report), (line) => told.push(line));
        expect(told.filter((line) => !line.startsWith('$ gcloud '))).toEqual([]);
        expect(queue).toMatchObject({
          rateLimits: { maxConcurrentDispatches: 1 },
          retryConfig: { maxAttempts: -1, minBackoff: '10s' },
        });
        expect(cloud.state.get(voxtral).rateLimits.maxDispatchesPerSecond).toBe(1);
        expect(cloud.state.policy(accountName(accounts.cpu)).bindings).toEqual([
          { role: 'roles/iam.serviceAccountTokenCreator', members: [`serviceAccount:${accounts.cpu}`] },
        ]);
        expect(bucket.iamConfiguration).toMatchObject({
          publicAccessPrevention: 'enforced',
          uniformBucketLevelAccess: { enabled: true },
        });
        expect(cloud.state.policy(`services/${GPU}`).bindings).toEqual([
          {
            role: 'roles/run.invoker',
            members: [`serviceAccount:${first.layout.accounts.invoker}`],
          },
        ]);
      },
      TIMEOUT_MS,
    );

    /** As Cloud Run words them, at the call that makes the service or job. */
    const HISTORIC: [string, string, 'services' | 'jobs', string, string][] = [
      [
        'a T4',
        "only 'nvidia-l4', 'nvidia-a100-80gb', 'nvidia-h100-80gb' and 'nvidia-rtx-pro-6000-96gb' are supported",
        'services',
        'gpu-type-not-supported',
        'Ask for `nvidia-l4`',
      ],
      [
        'an L4 job with zonal redundancy',
        'Currently Cloud Run jobs are unable to offer GPU enabled instances with zonal redundancy due to capacity limitations.',
        'jobs',
        'job-zonal-redundancy',
        'run.googleapis.com/gpu-zonal-redundancy-disabled: "true"',
      ],
      [
        'a memory quota of 40 GiB',
        'spec.template.metadata.annotations[autoscaling.knative.dev/maxScale]: Max instances must be set to 1 or fewer to set the requested total memory. Quota violated: MemAllocPerProjectRegion requested: 68719476736 allowed: 42949672960',
        'services',
        'memory-quota',
        'Set the greatest number of instances to 1',
      ],
    ];

    function refuse(kind: 'services' | 'jobs', message: string): void {
      const name = kind === 'jobs' ? JOB : GPU;
      cloud.fail({
        matches: ({ method, path, body }) =>
          (method === 'POST' || method === 'PUT') &&
          path.includes(`/${kind}`) &&
          body?.metadata?.name === name,
        status: 400,
        code: 'INVALID_ARGUMENT',
        message,
      });
    }

    describe('what stopped everybody is explained when it comes from Google', () => {
      test.each(HISTORIC)('%s', async (_, message, kind, id, fix) => {
        refuse(kind, message);
        const title = kind === 'jobs' ? `deploy the job ${JOB}` : `deploy the service ${GPU}`;
        const change = planSteps(first)
          .flatMap(({ changes }) => changes)
          .find((one) => one.title === title);
        const [command] = change?.commands ?? [];
        if (command === undefined) throw new Error(`nothing would ${title}`);
        const failure = await first.gcloud.run(command).catch((error: unknown) => error);
        if (!(failure instanceof GcloudError)) throw new Error('nothing failed');
        expect(explain(failure.output)).toMatchObject([{ id, fix: expect.stringContaining(fix) }]);
      });

      test(
        'and `up` says it',
        async () => {
          cloud.state.delete(`jobs/${JOB}`);
          const [, message, kind] = HISTORIC[1] as (typeof HISTORIC)[number];
          refuse(kind, message);
          const env = environmentFor(cloud);
          const { code, stderr } = await runCli(['deploy', 'up'], { cwd: REPOSITORY_ROOT, env }).ended;
          expect(stderr).toContain(message);
          expect(stderr).toContain('A job with a GPU cannot have zonal redundancy');
          expect(stderr).toContain('fix: Decline it');
          expect(code).toBe(1);
        },
        TIMEOUT_MS,
      );
    });

    test('gcloud of the day has no --gpu for jobs, and that is explained', async () => {
      const args = ['run', 'jobs', 'deploy', 'x', '--image=x', '--region=europe-west1', '--gpu=1'];
      const failure = await first.gcloud.run({ args }).catch((error: unknown) => error);
      if (!(failure instanceof GcloudError) || !failure.output.includes('unrecognized arguments')) {
        console.info('skipped: this gcloud has the flag');
        return;
      }
      expect(explain(failure.output)).toMatchObject([
        { id: 'gpu-flag-unknown', cause: expect.stringContaining('Cloud Run jobs may have GPUs') },
      ]);
    });
  });
});
