import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { REPOSITORY_ROOT } from '../../core/installation.ts';
import { type DeploymentOptions, openDeployment } from '../../deploy/deployment.ts';
import { findRemovals, remove } from '../../deploy/down.ts';
import { loadEnvironment } from '../../deploy/environment.ts';
import { planSteps, planText } from '../../deploy/plan.ts';
import { StepFailed, up } from '../../deploy/up.ts';
import type { Call } from '../support/fake-google-cloud/cloud-state.ts';
import {
  type FakeGoogleCloud,
  startFakeGoogleCloud,
} from '../support/fake-google-cloud/fake-google-cloud.ts';
import { startWarmGcloud, type WarmGcloud } from '../support/fake-google-cloud/warm-gcloud.ts';
import { hasGcloud } from '../support/gcloud-linter.ts';
import { runCli } from '../support/run-cli.ts';

// The real gcloud against a fake of the APIs that it calls. DEPLOY_FAULTS=all breaks the deployment at every call that
// changes something, which takes some minutes; without it, where something is left half done.

const isThere = await hasGcloud();
if (!isThere) console.info('skipped: there is no gcloud here to deploy with');

const PROJECT = 'my-project';
const UP_TIMEOUT_MS = 10 * 60_000;
const staging = await loadEnvironment('staging');

function changes({ method, path }: Call): boolean {
  return method !== 'GET' && !/:getIamPolicy$/.test(path) && !/:testIamPermissions$/.test(path);
}

interface Blow {
  title: string;
  matches(call: Call): boolean;
  isDone?: boolean;
}

const HALF_DONE: Blow[] = [
  {
    title: 'a bucket without its settings',
    matches: ({ method, path }) => method === 'PATCH' && path.endsWith('/my-project-zeroscribe-staging'),
  },
  { title: 'a secret without a value', matches: ({ path }) => path.endsWith(':addVersion') },
  {
    title: 'a build whose start nobody was told of',
    matches: ({ method, path }) => method === 'POST' && path.endsWith('/builds'),
    isDone: true,
  },
  {
    title: 'services without the API',
    matches: ({ method, path, body }) =>
      method === 'POST' && path.endsWith('/services') && body?.metadata?.name === 'zeroscribe-staging-api',
  },
];

(isThere ? describe : describe.skip)('npm run deploy', () => {
  let cloud: FakeGoogleCloud;
  let gcloud: WarmGcloud;
  let options: DeploymentOptions;

  beforeAll(async () => {
    gcloud = await startWarmGcloud();
    cloud = await startFakeGoogleCloud(PROJECT);
    options = optionsFor(cloud);
    // Somebody else's, in the same project.
    for (const name of STRANGERS) cloud.state.create(name, { name });
  }, 120_000);

  afterAll(async () => {
    await cloud?.stop();
    await gcloud?.stop();
  });

  const STRANGERS = [
    `projects/${PROJECT}/locations/europe-west1/queues/zeroscribe-staging-else`,
    `projects/${PROJECT}/secrets/somebody-elses`,
  ];

  function optionsFor({ env }: FakeGoogleCloud): DeploymentOptions {
    return { env: { PROJECT }, gcloud: { env: { ...env, ...gcloud.env } } };
  }

  async function deploy(on: DeploymentOptions): Promise<number> {
    return await up(await openDeployment(staging, on), { say: () => {}, pauseMs: 1 });
  }

  /** Breaks the deployment there and starts it again, on and on. */
  async function deployAgainst(on: FakeGoogleCloud, blows: readonly Blow[]): Promise<void> {
    for (const { title, matches, isDone = false } of blows) {
      const message = `this is the failure of the test: ${title}`;
      on.fail({ matches, status: 400, code: 'FAILED_PRECONDITION', message, isDone });
      const failure = await deploy(optionsFor(on)).then(
        () => undefined,
        (error: unknown) => error,
      );
      if (!(failure instanceof StepFailed)) throw failure ?? new Error(`nothing failed for ${title}`);
      // What gcloud said, whole.
      expect(failure.cause.output).toContain(message);
    }
  }

  it(
    'goes on where it broke off, and changes nothing when all is done',
    async () => {
      await deployAgainst(cloud, HALF_DONE);
      // What Google needs a moment for is tried again: an account that is not known everywhere yet.
      cloud.fail({
        matches: ({ path }) => path.endsWith('/services/zeroscribe-staging-cpu:setIamPolicy'),
        status: 400,
        code: 'INVALID_ARGUMENT',
        message: 'Service account zeroscribe-staging-invoker does not exist.',
      });
      expect(await deploy(options)).toBeGreaterThan(0);
      expect(cloud.faults).toEqual([]);

      cloud.calls.splice(0);
      const again = await openDeployment(staging, options);
      expect(planText(again.layout, planSteps(again))).toBe(
        'staging in the project my-project, europe-west1: everything is as it should be.\n',
      );
      expect(await up(again, { say: () => {} })).toBe(0);
      expect(cloud.calls.filter(changes)).toEqual([]);

      // The key was made once, and its reader is the API alone.
      const secret = `projects/${PROJECT}/secrets/zeroscribe-staging-api-keys`;
      expect(cloud.state.list(`${secret}/versions/`)).toHaveLength(1);
      expect(cloud.state.policy(secret).bindings).toEqual([
        {
          role: 'roles/secretmanager.secretAccessor',
          members: ['serviceAccount:zeroscribe-staging-api@my-project.iam.gserviceaccount.com'],
        },
      ]);
      // Nobody but the invoker calls what is private.
      expect(cloud.state.policy('services/zeroscribe-staging-gpu').bindings).toEqual([
        {
          role: 'roles/run.invoker',
          members: ['serviceAccount:zeroscribe-staging-invoker@my-project.iam.gserviceaccount.com'],
        },
      ]);
    },
    UP_TIMEOUT_MS,
  );

  it(
    'corrects what somebody changed by hand, and nothing else',
    async () => {
      const queue = cloud.state.get(
        `projects/${PROJECT}/locations/europe-west1/queues/zeroscribe-staging-gpu`,
      );
      queue.rateLimits.maxConcurrentDispatches = 9;
      cloud.state.get('services/zeroscribe-staging-cpu').spec.template.spec.containerConcurrency = 80;
      const deployment = await openDeployment(staging, options);
      const planned = planSteps(deployment).flatMap((step) => step.changes);
      expect(planned.map(({ title, details }) => [title, ...(details ?? [])])).toEqual([
        [
          'correct the queue zeroscribe-staging-gpu',
          '- maxConcurrentDispatches: 9',
          '+ maxConcurrentDispatches: 1',
        ],
        [
          'deploy the service zeroscribe-staging-cpu again',
          '- spec.template.spec.containerConcurrency: 80',
          '+ spec.template.spec.containerConcurrency: 4',
        ],
      ]);
      expect(await up(deployment, { say: () => {} })).toBe(2);
      expect(queue.rateLimits.maxConcurrentDispatches).toBe(1);
    },
    UP_TIMEOUT_MS,
  );

  it(
    'shows what is deployed and what runs, and takes down everything that it made and nothing else',
    async () => {
      const vertexJob = `projects/${PROJECT}/locations/europe-west1/customJobs/7`;
      cloud.state.create(vertexJob, {
        name: vertexJob,
        displayName: 'transcribe-tr_1',
        state: 'JOB_STATE_RUNNING',
        jobSpec: { serviceAccount: 'zeroscribe-staging-gpu@my-project.iam.gserviceaccount.com' },
      });
      cloud.state.create('executions/one', {
        metadata: { name: 'zeroscribe-staging-gpu-job-x7' },
        status: {},
      });
      const env = { ...cloud.env, ...gcloud.env, PROJECT };
      const cli = (...args: string[]) => runCli(['deploy', ...args], { cwd: REPOSITORY_ROOT, env }).ended;

      const status = await cli('status');
      expect(status).toMatchObject({ code: 0, stderr: '' });
      expect(status.stdout).toMatch(/^service zeroscribe-staging-gpu: ready {2}https:/m);
      expect(status.stdout).toMatch(/^job zeroscribe-staging-gpu-job: ready/m);
      expect(status.stdout).toMatch(/^queue zeroscribe-staging-cpu: 0 waiting/m);
      expect(status.stdout).toMatch(/^runs on gpu-job: zeroscribe-staging-gpu-job-x7$/m);
      expect(status.stdout).toMatch(/^runs on Vertex AI: transcribe-tr_1$/m);

      cloud.calls.splice(0);
      const unasked = await cli('down');
      expect(unasked.code).toBe(2);
      expect(unasked.stderr).toMatch(/service zeroscribe-staging-api\n.*Nobody can be asked here: --yes/s);
      expect(unasked.stderr).toMatch(/Stays:\n {2}gs:\/\/my-project-zeroscribe-staging with all recordings/);
      expect(cloud.calls.filter(changes)).toEqual([]);

      const down = await cli('down', '--yes', '--delete-data');
      expect(down.stderr).toMatch(/names of the queues cannot be used again for some days/);
      expect(down.code).toBe(0);
      const left = [...cloud.state.resources].filter(([name, { deleted }]) => !deleted && name !== vertexJob);
      expect(left.map(([name]) => name).toSorted()).toEqual(['executions/one', ...STRANGERS].toSorted());
      expect(cloud.state.get(vertexJob).state).toBe('JOB_STATE_CANCELLED');
      expect(cloud.state.policy(`projects/${PROJECT}`).bindings ?? []).toEqual([]);
    },
    UP_TIMEOUT_MS,
  );

  (process.env.DEPLOY_FAULTS === 'all' ? it : it.skip)(
    'goes on after a failure of any call that changes something',
    async () => {
      const clean = await startFakeGoogleCloud(PROJECT);
      await deploy(optionsFor(clean));
      const blows = clean.calls.filter(changes).map(({ method, host, path, body }, i): Blow => {
        const name = body?.metadata?.name ?? body?.accountId ?? body?.name;
        return {
          title: `${method} ${host}${path} ${name ?? ''}`,
          matches: (call) =>
            call.method === method &&
            call.host === host &&
            call.path === path &&
            (call.body?.metadata?.name ?? call.body?.accountId ?? call.body?.name) === name,
          isDone: i % 2 === 1,
        };
      });
      await clean.stop();
      const broken = await startFakeGoogleCloud(PROJECT);
      try {
        let met = 0;
        for (const blow of blows) {
          // What was done although its answer was lost is not done again.
          await deployAgainst(broken, [blow]).then(
            () => {
              met += 1;
            },
            (error: Error) => {
              if (!error.message.startsWith('nothing failed')) throw error;
              broken.faults.splice(0);
            },
          );
        }
        console.info(`${met} of ${blows.length} calls that change something were made to fail`);
        await deploy(optionsFor(broken));
        expect(await deploy(optionsFor(broken))).toBe(0);

        // Down and up again: names of queues and roles are kept by Google for a while.
        const { gcloud: tool, layout, deployed } = await openDeployment(staging, optionsFor(broken));
        const all = { deleteData: false, keepQueues: false };
        await remove(tool, await findRemovals({ gcloud: tool, layout, deployed }, all), () => {});
        const failure = await deploy(optionsFor(broken)).catch((error: Error) => error.cause);
        expect(String(failure)).toMatch(/a queue with this name existed too recently/);
        const renamed = { ...staging, queuePrefix: 'zeroscribe-again' };
        expect(
          await up(await openDeployment(renamed, optionsFor(broken)), { say: () => {}, pauseMs: 1 }),
        ).toBeGreaterThan(0);
      } finally {
        await broken.stop();
      }
    },
    60 * 60_000,
  );
});
