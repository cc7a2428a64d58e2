import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { REPOSITORY_ROOT } from '../../core/installation.ts';
import { type DeploymentOptions, openDeployment } from '../../deploy/deployment.ts';
import { type Environment, loadEnvironment, parseEnvironment } from '../../deploy/environment.ts';
import { planSteps, planText } from '../../deploy/plan.ts';
import { StepFailed, up } from '../../deploy/up.ts';
import { accountName, type Call } from '../support/fake-google-cloud/cloud-state.ts';
import {
  type FakeGoogleCloud,
  startFakeGoogleCloud,
} from '../support/fake-google-cloud/fake-google-cloud.ts';
import { startWarmGcloud, type WarmGcloud } from '../support/fake-google-cloud/warm-gcloud.ts';
import { hasGcloud } from '../support/gcloud-linter.ts';
import { runCli } from '../support/run-cli.ts';

// The real gcloud against a fake of the APIs that it calls. Calls that change something are made to fail: those that leave
// something half done, or with DEPLOY_FAULTS=all every one, which takes a minute or two more.

const isThere = await hasGcloud();
if (!isThere) console.info('skipped: there is no gcloud here to deploy with');

const PROJECT = 'my-project';
const UP_TIMEOUT_MS = 10 * 60_000;
const LEAVES_HALF_DONE =
  /^PATCH .*\/my-project-zeroscribe-staging |:addVersion |\/builds |^POST .*-run\..*\/services /;
const isChosen = (key: string) => process.env.DEPLOY_FAULTS === 'all' || LEAVES_HALF_DONE.test(key);
const FAILURE = 'this is the failure of the test';
const MISTRAL_KEY = 'a-key-of-the-tests';
const staging = await loadEnvironment('staging');
const { name, ...asInTheFile } = staging;
/** With the line that its file has in a comment. */
const withVoxtral = parseEnvironment(name, {
  ...asInTheFile,
  backends: [...asInTheFile.backends, { kind: 'voxtral', name: 'voxtral' }],
});

function changes({ method, path }: Call): boolean {
  return method !== 'GET' && !/:getIamPolicy$/.test(path) && !/:testIamPermissions$/.test(path);
}

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
  }, 300_000);

  afterAll(async () => {
    await cloud?.stop();
    await gcloud?.stop();
  });

  const QUEUES = `projects/${PROJECT}/locations/europe-west1/queues`;
  const MISTRAL_SECRET = `projects/${PROJECT}/secrets/zeroscribe-staging-mistral-api-key`;
  const CPU_ACCOUNT = `zeroscribe-staging-cpu@${PROJECT}.iam.gserviceaccount.com`;
  const STRANGERS = [`${QUEUES}/zeroscribe-staging-else`, `projects/${PROJECT}/secrets/somebody-elses`];

  function optionsFor({ env }: FakeGoogleCloud): DeploymentOptions {
    return { env: { PROJECT, MISTRAL_API_KEY: MISTRAL_KEY }, gcloud: { env: { ...env, ...gcloud.env } } };
  }

  async function deploy(environment: Environment): Promise<number> {
    return await up(await openDeployment(environment, options), { say: () => {}, pauseMs: 1 });
  }

  /** Each fails the first time that it is made; every second one after it has done what it should. */
  function failEverythingOnce(): Set<string> {
    const met = new Set<string>();
    const isNext = (call: Call, parity: number): boolean => {
      if (!changes(call)) return false;
      const { method, host, path, query, body } = call;
      const name = body?.metadata?.name ?? body?.accountId ?? body?.name ?? query.get('secretId') ?? '';
      const key = `${method} ${host}${path} ${name}`;
      if (!isChosen(key) || met.has(key) || met.size % 2 !== parity) return false;
      met.add(key);
      return true;
    };
    for (const parity of [0, 1]) {
      cloud.fail({
        matches: (call) => isNext(call, parity),
        status: 400,
        code: 'FAILED_PRECONDITION',
        message: FAILURE,
        isDone: parity === 1,
        stays: true,
      });
    }
    return met;
  }

  it(
    'goes on wherever it broke off, and changes nothing when all is done',
    async () => {
      const met = failEverythingOnce();
      let failures = 0;
      for (let isOver = false; !isOver; ) {
        const failure = await deploy(withVoxtral).then(
          () => undefined,
          (error: unknown) => error,
        );
        isOver = failure === undefined;
        if (isOver) break;
        if (!(failure instanceof StepFailed)) throw failure;
        // What gcloud said, whole.
        expect(failure.cause.output).toContain(FAILURE);
        failures += 1;
        expect(failures).toBeLessThan(100);
      }
      cloud.faults.splice(0);
      expect(met.size).toBeGreaterThan(process.env.DEPLOY_FAULTS === 'all' ? 35 : 5);
      expect(failures).toBeGreaterThan(3);

      cloud.calls.splice(0);
      // Whoever deploys again needs no key.
      const again = await openDeployment(withVoxtral, { ...options, env: { PROJECT } });
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

      // cpu-service alone reads Mistral's key and signs, for itself.
      const [version, ...others] = cloud.state.list(`${MISTRAL_SECRET}/versions/`);
      expect(others).toEqual([]);
      expect(Buffer.from(version.payload.data, 'base64').toString()).toBe(MISTRAL_KEY);
      expect(cloud.state.policy(MISTRAL_SECRET).bindings).toEqual([
        { role: 'roles/secretmanager.secretAccessor', members: [`serviceAccount:${CPU_ACCOUNT}`] },
      ]);
      expect(cloud.state.policy(accountName(CPU_ACCOUNT)).bindings).toEqual([
        { role: 'roles/iam.serviceAccountTokenCreator', members: [`serviceAccount:${CPU_ACCOUNT}`] },
      ]);
      expect(cloud.state.enabledApis).toContain('iamcredentials.googleapis.com');
      expect(cloud.state.get(`${QUEUES}/zeroscribe-staging-voxtral`)).toMatchObject({
        rateLimits: { maxConcurrentDispatches: 4, maxDispatchesPerSecond: 1 },
        retryConfig: { maxAttempts: -1 },
      });
    },
    UP_TIMEOUT_MS,
  );

  it(
    'corrects what somebody changed by hand, takes back what no backend needs any more, and touches nothing else',
    async () => {
      const queue = cloud.state.get(`${QUEUES}/zeroscribe-staging-gpu`);
      queue.rateLimits.maxConcurrentDispatches = 9;
      cloud.state.get('services/zeroscribe-staging-cpu').spec.template.spec.containerConcurrency = 80;
      const deployment = await openDeployment(staging, options);
      const planned = planSteps(deployment).flatMap((step) => step.changes);
      // All services have the list of backends.
      const details = (all: string[] = []) => all.filter((line) => !/\.env\./.test(line));
      expect(planned.map((change) => [change.title, ...details(change.details)])).toEqual([
        [
          'correct the queue zeroscribe-staging-gpu',
          '- maxConcurrentDispatches: 9',
          '+ maxConcurrentDispatches: 1',
        ],
        ['deploy the service zeroscribe-staging-gpu again'],
        ['deploy the job zeroscribe-staging-gpu-job again'],
        [
          'deploy the service zeroscribe-staging-cpu again',
          '- spec.template.spec.containerConcurrency: 80',
          '+ spec.template.spec.containerConcurrency: 4',
        ],
        ['deploy the service zeroscribe-staging-api again'],
        [
          'rights on the secret zeroscribe-staging-mistral-api-key',
          `- roles/secretmanager.secretAccessor  serviceAccount:${CPU_ACCOUNT}`,
        ],
        [
          `rights on the account ${CPU_ACCOUNT}`,
          `- roles/iam.serviceAccountTokenCreator  serviceAccount:${CPU_ACCOUNT}`,
        ],
        ['remove the queue zeroscribe-staging-voxtral'],
      ]);
      cloud.calls.splice(0);
      // What Google needs a moment for is tried again.
      cloud.fail({
        matches: ({ method, path }) => method === 'PATCH' && path.endsWith('/zeroscribe-staging-gpu'),
        status: 503,
        code: 'UNAVAILABLE',
        message: 'The service is currently unavailable.',
      });
      expect(await up(deployment, { say: () => {}, pauseMs: 1 })).toBe(planned.length);
      expect(cloud.faults).toEqual([]);
      expect(queue.rateLimits.maxConcurrentDispatches).toBe(1);
      const removed = cloud.calls.filter(({ method }) => method === 'DELETE').map(({ path }) => path);
      expect(removed).toEqual([expect.stringMatching(/\/queues\/zeroscribe-staging-voxtral$/)]);
      expect(cloud.state.policy(MISTRAL_SECRET).bindings ?? []).toEqual([]);
      expect(cloud.state.policy(accountName(CPU_ACCOUNT)).bindings ?? []).toEqual([]);
      expect(JSON.stringify(cloud.state.get('services/zeroscribe-staging-cpu'))).not.toMatch(
        /mistral|voxtral/i,
      );
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
      // Of a backend that has left the file, and nobody has called `up` since.
      const former = `${QUEUES}/zeroscribe-staging-former`;
      cloud.state.create(former, { name: former, state: 'RUNNING' });
      cloud.state.setPolicy(former, {
        bindings: [{ role: 'roles/cloudtasks.enqueuer', members: [`serviceAccount:${CPU_ACCOUNT}`] }],
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

      // What Google keeps the name of stops the next one, until queuePrefix gives it another.
      const failure = await deploy(staging).catch((error: Error) => error.cause);
      expect(String(failure)).toMatch(/a queue with this name existed too recently/);
    },
    UP_TIMEOUT_MS,
  );
});
