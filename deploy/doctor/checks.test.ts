import { describe, expect, test } from '@jest/globals';
import { hasGcloud, lintGcloudCommands } from '../../tests/support/gcloud-linter.ts';
import { healthyFacts } from '../../tests/support/healthy-facts.ts';
import { type EnvironmentInput, loadEnvironment, parseEnvironment } from '../environment.ts';
import { type Layout, layOut } from '../layout.ts';
import type { DeployedQueue, DeployedRun } from '../observe.ts';
import type { Policy } from '../policy.ts';
import { type Facts, type OrgPolicy, type Seen, type StoreBucket, seen, unseen } from './facts.ts';
import type { Finding } from './finding.ts';
import { DOCTOR_APIS } from './gather-facts.ts';
import { countOf, examine, fixesOf, reportText } from './report.ts';

const PROJECT = { id: 'acme', number: '123456' };
const TAGS = { api: 'a1', gpu: 'g1' };
const staging = layOut(await loadEnvironment('staging'), PROJECT, TAGS);

const isThere = await hasGcloud();
if (!isThere) console.info('skipped: there is no gcloud here to check the fixing commands with');

/** An environment like staging, with something else in it. */
function variant(change: Partial<EnvironmentInput>): Layout {
  const { name, ...environment } = staging.environment;
  return layOut(parseEnvironment('variant', { ...environment, ...change }), PROJECT, TAGS);
}

function troubles(facts: Facts, layout: Layout = staging): Finding[] {
  return examine(facts, layout)
    .checks.flatMap(({ findings }) => findings)
    .filter(({ level }) => level !== 'ok');
}

function value<T>(fact: Seen<T>): T {
  if (!fact.isSeen) throw new Error(fact.why);
  return fact.value;
}

const GPU = 'zeroscribe-staging-gpu';
const JOB = 'zeroscribe-staging-gpu-job';
const CPU = 'zeroscribe-staging-cpu';
const API = 'zeroscribe-staging-api';

/** The facts with one service or job changed. */
function withRun(name: string, change: (run: DeployedRun) => void, layout: Layout = staging): Facts {
  const facts = healthyFacts(layout);
  const runs = structuredClone(value(facts.runs) as DeployedRun[]);
  const run = runs.find(({ metadata }) => metadata.name === name);
  if (run === undefined) throw new Error(`there is no ${name}`);
  change(run);
  return { ...facts, runs: seen(runs) };
}

interface Template {
  metadata: { annotations: Record<string, string> };
  spec: {
    nodeSelector?: Record<string, string>;
    containerConcurrency?: number;
    timeoutSeconds?: number;
    containers: [
      {
        env: { name: string; value: string }[];
        resources: { limits: Record<string, string> };
        startupProbe: { httpGet: { path: string }; periodSeconds: number };
      },
    ];
  };
}
const template = (run: DeployedRun) => run.spec.template as Template;
const annotations = (run: DeployedRun) => template(run).metadata.annotations;
const container = (run: DeployedRun) => template(run).spec.containers[0];

function withVariable(name: string, variable: string, text: string): Facts {
  return withRun(name, (run) => {
    const found = container(run).env.find((one) => one.name === variable);
    if (found === undefined) throw new Error(`${name} has no ${variable}`);
    found.value = text;
  });
}

function withQueue(name: string, change: Partial<DeployedQueue>): Facts {
  const facts = healthyFacts(staging);
  const queues = new Map(value(facts.queues));
  queues.set(name, { ...(queues.get(name) as DeployedQueue), ...change });
  return { ...facts, queues: seen(queues) };
}

function withBucket(change: Partial<StoreBucket>): Facts {
  const facts = healthyFacts(staging);
  return { ...facts, bucket: seen({ ...(value(facts.bucket) as StoreBucket), ...change }) };
}

function withPolicy(key: string, change: (policy: Policy) => void): Facts {
  const facts = healthyFacts(staging);
  const policy = structuredClone(value(facts.policies.get(key) as Seen<Policy>));
  change(policy);
  return { ...facts, policies: new Map([...facts.policies, [key, seen(policy)]]) };
}

function withQuota(id: string, limit: number, layout: Layout = staging): Facts {
  const facts = healthyFacts(layout);
  return { ...facts, runQuotas: seen(new Map([...value(facts.runQuotas), [id, limit]])) };
}

function withOrgPolicy(name: string, policy: OrgPolicy): Facts {
  const facts = healthyFacts(staging);
  return { ...facts, orgPolicies: new Map([...facts.orgPolicies, [name, seen(policy)]]) };
}

const GIB = 1024 ** 3;
const GPU_QUOTA = 'NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion';

test('where nothing is wrong, nothing is found', () => {
  expect(troubles(healthyFacts(staging))).toEqual([]);
});

describe('quota', () => {
  test('a memory quota of 40 GiB refuses two instances of 32 GiB, and the doctor says so before the deploy', () => {
    const [gpu, ...others] = staging.environment.backends;
    const two = variant({
      backends: [{ ...gpu, shape: '8x32', maxRunning: 2 }, ...others] as EnvironmentInput['backends'],
    });
    const facts = withQuota('MemAllocPerProjectRegion', 40 * GIB, two);
    expect(troubles({ ...facts, runs: seen([]) }, two)).toContainEqual(
      expect.objectContaining({
        level: 'problem',
        what: `${GPU} may take 64 GiB at once, and the project has 40 GiB in europe-west1`,
        fix: expect.stringContaining('Lower maxRunning or maxInstances, or take the shape 4x16,'),
        commands: expect.arrayContaining([
          { line: 'npm run deploy -- up --environment variant' },
          {
            line: `gcloud beta quotas preferences create --service=run.googleapis.com --quota-id=MemAllocPerProjectRegion --preferred-value=${64 * GIB} --dimensions=region=europe-west1 --project=acme`,
          },
        ]),
      }),
    );
  });

  test('what each may have but not all together is a warning that names who shares it', () => {
    expect(troubles(withQuota('MemAllocPerProjectRegion', 40 * GIB))).toEqual([]);
    const [found, ...more] = troubles(withQuota('MemAllocPerProjectRegion', 30 * GIB));
    expect(more).toEqual([]);
    expect(found).toMatchObject({
      level: 'warning',
      what: 'together 38 GiB in europe-west1, and the project has 30 GiB',
      why: expect.stringContaining(`${GPU} 16 GiB, ${JOB} 16 GiB`),
    });
  });

  test('other environments of the project share the three GPUs of the region', () => {
    const facts = healthyFacts(staging);
    const others = value(facts.runs)
      .filter(({ metadata }) => metadata.name === GPU)
      .map((run) => ({ ...run, metadata: { ...run.metadata, name: 'zeroscribe-production-gpu' } }));
    for (const run of others) (run as DeployedRun).spec = structuredClone(run.spec);
    for (const run of others) annotations(run)['autoscaling.knative.dev/maxScale'] = '2';
    expect(troubles({ ...facts, runs: seen([...value(facts.runs), ...others]) })).toContainEqual(
      expect.objectContaining({
        level: 'warning',
        what: 'together 4 L4 in europe-west1, and the project has 3 L4',
        why: expect.stringContaining('zeroscribe-production-gpu 2 L4'),
      }),
    );
  });

  test('no GPU quota at all is a problem for each that needs one', () => {
    const found = troubles(withQuota(GPU_QUOTA, 0));
    expect(found.map(({ level, what }) => [level, what])).toEqual([
      ['problem', `${GPU} may take 1 L4 at once, and the project has 0 L4 in europe-west1`],
      ['problem', `${JOB} may take 1 L4 at once, and the project has 0 L4 in europe-west1`],
    ]);
    expect(found[0]?.why).toContain('Free trials get no GPUs');
  });

  test('a quota that cannot be seen is said so, and compared with what a new project has', () => {
    const backends = staging.environment.backends.map((one) =>
      one.kind === 'cloud-run-job' ? { ...one, shape: '8x32' as const } : one,
    );
    const larger = variant({ backends });
    const facts = { ...healthyFacts(larger), runQuotas: unseen('you may not list quotas') };
    const found = troubles(facts, larger);
    expect(found.every(({ level }) => level === 'warning')).toBe(true);
    expect(found[0]).toMatchObject({
      what: 'The quota could not be seen, so what a new project has is taken for it',
      why: 'you may not list quotas',
    });
    expect(found.some(({ what }) => what.includes('a new project has 40 GiB'))).toBe(true);
  });

  test('a quota of minus one is no limit', () => {
    expect(troubles(withQuota('MemAllocPerProjectRegion', -1))).toEqual([]);
  });

  test.each([
    ['europe-north1', 'problem', 'europe-north1 has no GPUs on Cloud Run'],
    ['us-central1', 'warning', 'us-central1 has L4, but may be by invitation only'],
    ['asia-south1', 'problem', 'asia-south1 has L4 by invitation only'],
  ])('the region %s', (region, level, what) => {
    const layout = variant({ region });
    expect(troubles(healthyFacts(layout), layout)).toMatchObject([
      { level, what, fix: expect.stringContaining('europe-west1') },
    ]);
  });

  test('Vertex AI has a quota of its own, and another one for spot machines', () => {
    const facts = { ...healthyFacts(staging), vertexQuotas: seen(new Map()) };
    expect(troubles(facts)).toMatchObject([
      {
        level: 'warning',
        what: 'vertex may run 1 at once, and custom_model_training_preemptible_nvidia_l4_gpus is 0 in europe-west1',
      },
    ]);
  });
});

/** What is broken, the facts, and what the doctor must say of it: level, what, the command. */
const BROKEN: [string, Facts, Finding['level'], string, string | RegExp | undefined][] = [
  [
    'a T4 was asked for by hand',
    withRun(GPU, (run) => {
      template(run).spec.nodeSelector = { 'run.googleapis.com/accelerator': 'nvidia-t4' };
    }),
    'problem',
    `${GPU} asks for the GPU nvidia-t4`,
    `gcloud run services update ${GPU} --region=europe-west1 --gpu=1 --gpu-type=nvidia-l4 --no-gpu-zonal-redundancy --project=acme`,
  ],
  [
    'zonal redundancy',
    withRun(GPU, (run) => {
      delete annotations(run)['run.googleapis.com/gpu-zonal-redundancy-disabled'];
    }),
    'problem',
    `${GPU} has zonal redundancy`,
    /--no-gpu-zonal-redundancy/,
  ],
  [
    'zonal redundancy of a job, which is put right by its manifest',
    withRun(JOB, (run) => {
      annotations(run)['run.googleapis.com/gpu-zonal-redundancy-disabled'] = 'False';
    }),
    'problem',
    `${JOB} has zonal redundancy`,
    'npm run deploy -- up --environment staging',
  ],
  [
    'billing by request',
    withRun(GPU, (run) => {
      annotations(run)['run.googleapis.com/cpu-throttling'] = 'true';
    }),
    'problem',
    `${GPU} is billed by request`,
    /--no-cpu-throttling/,
  ],
  [
    'too small for an L4',
    withRun(GPU, (run) => {
      container(run).resources.limits = { cpu: '2000m', memory: '8Gi', 'nvidia.com/gpu': '1' };
    }),
    'problem',
    `${GPU} has 2 vCPU and 8 GiB`,
    /--cpu=8 --memory=32Gi/,
  ],
  [
    'many tasks on one GPU',
    withRun(GPU, (run) => {
      template(run).spec.containerConcurrency = 80;
    }),
    'problem',
    `${GPU} takes 80 tasks at a time`,
    /--concurrency=1/,
  ],
  [
    'an instance that never ends',
    withRun(GPU, (run) => {
      annotations(run)['autoscaling.knative.dev/minScale'] = '1';
    }),
    'warning',
    `${GPU} keeps 1 running`,
    /--min-instances=0/,
  ],
  [
    'a short timeout',
    withRun(CPU, (run) => {
      template(run).spec.timeoutSeconds = 300;
    }),
    'problem',
    `${CPU} ends requests after 300 s`,
    /--timeout=3600/,
  ],
  [
    'a probe at a path that never arrives',
    withRun(CPU, (run) => {
      container(run).startupProbe.httpGet.path = '/healthz';
    }),
    'problem',
    `${CPU} is probed at /healthz`,
    /httpGet\.path=\/health\/live/,
  ],
  [
    'a probe that waits for models',
    withRun(GPU, (run) => {
      container(run).startupProbe.httpGet.path = '/health/ready';
    }),
    'warning',
    `${GPU} is probed at /health/ready`,
    /startup-probe/,
  ],
  [
    'a probe beyond its window',
    withRun(GPU, (run) => {
      container(run).startupProbe.periodSeconds = 10;
    }),
    'problem',
    `${GPU} has a startup probe of 2400 s with a timeout of 1 s`,
    /startup-probe/,
  ],
  [
    'an API that takes calls from within only',
    withRun(API, (run) => {
      run.metadata.annotations = { ...run.metadata.annotations, 'run.googleapis.com/ingress': 'internal' };
    }),
    'problem',
    `${API} takes calls from within only (internal)`,
    /--ingress=all/,
  ],
  [
    'a worker that everybody reaches',
    withRun(GPU, (run) => {
      run.metadata.annotations = { 'run.googleapis.com/ingress': 'all' };
    }),
    'warning',
    `${GPU} is reachable from everywhere`,
    /--ingress=internal/,
  ],
  [
    'a public API that lets nobody through',
    withRun(API, (run) => {
      delete run.metadata.annotations?.['run.googleapis.com/invoker-iam-disabled'];
    }),
    'problem',
    `${API} should be public, and Google’s front end lets nobody through`,
    /--no-invoker-iam-check/,
  ],
  [
    'a revision that could not be made',
    withRun(GPU, (run) => {
      run.status = {
        conditions: [
          {
            type: 'Ready',
            status: 'False',
            message: `Revision '${GPU}-00002-abc' is not ready and cannot serve traffic. Quota exceeded for total allowable count of GPUs per project per region.`,
          },
        ],
      };
    }),
    'problem',
    `${GPU} is not ready: Revision '${GPU}-00002-abc' is not ready and cannot serve traffic. Quota exceeded for total allowable count of GPUs per project per region.`,
    `gcloud run services update ${GPU} --region=europe-west1 --project=acme --no-gpu-zonal-redundancy --max-instances=1`,
  ],
  [
    'a revision that failed for a reason nobody knows',
    withRun(CPU, (run) => {
      run.status = {
        conditions: [{ type: 'Ready', status: 'False', message: 'The flux capacitor is empty.' }],
      };
    }),
    'problem',
    `${CPU} is not ready: The flux capacitor is empty.`,
    /services logs read/,
  ],
  [
    'an audience of another address',
    withVariable(GPU, 'TASK_AUDIENCE', 'https://old.example'),
    'problem',
    `${GPU}: TASK_AUDIENCE is https://old.example, and tasks carry https://${GPU}-123456.europe-west1.run.app`,
    'npm run deploy -- up --environment staging',
  ],
  [
    'a check of callers that Cloud Run makes impossible',
    withVariable(CPU, 'TASK_AUTH', 'verify'),
    'problem',
    `${CPU}: TASK_AUTH is verify`,
    /up --environment staging/,
  ],
  [
    'an API that brings its tasks elsewhere',
    withVariable(API, 'CPU_SERVICE_URL', 'https://old.example'),
    'problem',
    `${API}: CPU_SERVICE_URL is https://old.example, and ${CPU} is at https://${CPU}-123456.europe-west1.run.app`,
    /up --environment staging/,
  ],
  [
    'an invoker of another name',
    withVariable(API, 'TASK_INVOKER_EMAIL', 'other@acme.iam.gserviceaccount.com'),
    'problem',
    `${API}: TASK_INVOKER_EMAIL is other@acme.iam.gserviceaccount.com, not ${staging.accounts.invoker}`,
    /up --environment staging/,
  ],
  [
    'a paused queue',
    withQueue(GPU, { state: 'PAUSED' }),
    'problem',
    `${GPU} is paused`,
    `gcloud tasks queues resume ${GPU} --location=europe-west1 --project=acme`,
  ],
  [
    'a queue that sends more than can be taken',
    withQueue(GPU, { rateLimits: { maxConcurrentDispatches: 1_000 } }),
    'problem',
    `${GPU} brings 1000 tasks at a time, and there can be instances for 1`,
    /--max-concurrent-dispatches=1 /,
  ],
  [
    'a queue that gives up',
    withQueue(CPU, { retryConfig: { maxAttempts: 100, minBackoff: '10s', maxBackoff: '300s' } }),
    'problem',
    `${CPU} gives tasks up`,
    /--max-attempts=-1 --max-retry-duration=0s/,
  ],
  [
    'a queue that hurries',
    withQueue(CPU, { retryConfig: { maxAttempts: -1, minBackoff: '0.100s', maxBackoff: '3600s' } }),
    'warning',
    `${CPU} waits 0.100s to 3600s between tries`,
    /--min-backoff=10s --max-backoff=300s/,
  ],
  [
    'a bucket that could be made public',
    withBucket({ iamConfiguration: { uniformBucketLevelAccess: { enabled: true } } }),
    'problem',
    'gs://acme-zeroscribe-staging can be made public',
    /--public-access-prevention/,
  ],
  [
    'a bucket with rights on objects',
    withBucket({ iamConfiguration: { publicAccessPrevention: 'enforced' } }),
    'problem',
    'gs://acme-zeroscribe-staging has rights on single objects',
    /--uniform-bucket-level-access/,
  ],
  [
    'a bucket that keeps what is deleted',
    withBucket({ softDeletePolicy: { retentionDurationSeconds: '604800' } }),
    'problem',
    'gs://acme-zeroscribe-staging keeps what is deleted',
    /--clear-soft-delete/,
  ],
  [
    'a bucket with versions',
    withBucket({ versioning: { enabled: true } }),
    'warning',
    'gs://acme-zeroscribe-staging keeps old versions',
    /--no-versioning/,
  ],
  [
    'a bucket that lets nothing be changed',
    withBucket({ retentionPolicy: { retentionPeriod: '86400' } }),
    'problem',
    'gs://acme-zeroscribe-staging has a retention period',
    /--clear-retention-period/,
  ],
  [
    'a lifecycle that eats everything',
    withBucket({
      lifecycle: {
        rule: [
          { action: { type: 'Delete' }, condition: { age: 30 } },
          { action: { type: 'Delete' }, condition: { age: 3, matchesPrefix: ['uploads/'] } },
        ],
      },
    }),
    'problem',
    'a lifecycle rule deletes everything by age',
    /up --environment staging/,
  ],
  [
    'a bucket without a backstop for uploads',
    withBucket({ lifecycle: { rule: [] } }),
    'warning',
    'no lifecycle rule removes abandoned uploads',
    /up --environment staging/,
  ],
  [
    'a bucket far away',
    withBucket({ location: 'US' }),
    'warning',
    'gs://acme-zeroscribe-staging is in us, the services in europe-west1',
    undefined,
  ],
  [
    'an invoker that may not call',
    withPolicy(`service ${GPU}`, (policy) => {
      policy.bindings = [];
    }),
    'problem',
    `serviceAccount:${staging.accounts.invoker} lacks roles/run.invoker on the service ${GPU}`,
    `gcloud run services add-iam-policy-binding ${GPU} --region=europe-west1 --member=serviceAccount:${staging.accounts.invoker} --role=roles/run.invoker --project=acme`,
  ],
  [
    'a worker that everybody may call',
    withPolicy(`service ${CPU}`, (policy) => {
      policy.bindings?.push({ role: 'roles/run.invoker', members: ['allUsers'] });
    }),
    'problem',
    `allUsers has roles/run.invoker on the service ${CPU}`,
    /remove-iam-policy-binding .*--member=allUsers/,
  ],
  [
    'an API that may not act as the invoker',
    withPolicy(`account ${staging.accounts.invoker}`, (policy) => {
      policy.bindings = policy.bindings?.map((one) => ({
        ...one,
        members: one.members.filter((member) => member !== `serviceAccount:${staging.accounts.api}`),
      })) as NonNullable<Policy['bindings']>;
    }),
    'problem',
    `serviceAccount:${staging.accounts.api} lacks roles/iam.serviceAccountUser on the account ${staging.accounts.invoker}`,
    /iam service-accounts add-iam-policy-binding/,
  ],
  [
    'an account with more than it needs',
    withPolicy(`bucket ${staging.bucket}`, (policy) => {
      policy.bindings?.push({
        role: 'roles/storage.admin',
        members: [`serviceAccount:${staging.accounts.gpu}`],
      });
    }),
    'warning',
    `serviceAccount:${staging.accounts.gpu} has roles/storage.admin on the bucket ${staging.bucket} and needs it for nothing`,
    /storage buckets remove-iam-policy-binding/,
  ],
  [
    'a cpu-service that may not use Vertex AI',
    { ...healthyFacts(staging), mayUseVertex: seen(false) },
    'problem',
    `serviceAccount:${staging.accounts.cpu} may not run jobs at Vertex AI`,
    /up --environment staging/,
  ],
  [
    'a secret without a value',
    {
      ...healthyFacts(staging),
      secrets: seen(
        new Map([
          ...value(healthyFacts(staging).secrets),
          ['zeroscribe-staging-api-keys', { hasValue: seen(false) }],
        ]),
      ),
    },
    'problem',
    'zeroscribe-staging-api-keys has no value',
    /up --environment staging/,
  ],
  [
    'a disabled account',
    {
      ...healthyFacts(staging),
      accounts: seen(
        new Map([...value(healthyFacts(staging).accounts), [staging.accounts.gpu, { isDisabled: true }]]),
      ),
    },
    'problem',
    `${staging.accounts.gpu} is disabled`,
    /service-accounts enable/,
  ],
  [
    'an API of Google that was switched off',
    {
      ...healthyFacts(staging),
      apis: seen(
        new Set([...value(healthyFacts(staging).apis)].filter((api) => api !== 'cloudtasks.googleapis.com')),
      ),
    },
    'problem',
    'not enabled: cloudtasks.googleapis.com',
    'gcloud services enable cloudtasks.googleapis.com --project=acme',
  ],
  [
    'APIs that only the doctor asks',
    {
      ...healthyFacts(staging),
      apis: seen(
        new Set([...value(healthyFacts(staging).apis)].filter((api) => api !== 'cloudquotas.googleapis.com')),
      ),
      runQuotas: { isSeen: false, why: 'off', isToldElsewhere: true },
      vertexQuotas: { isSeen: false, why: 'off', isToldElsewhere: true },
    },
    'warning',
    'not quotas',
    'gcloud services enable cloudquotas.googleapis.com --project=acme',
  ],
  [
    'no billing',
    { ...healthyFacts(staging), hasBilling: seen(false) },
    'problem',
    'acme has no open billing account',
    /billing projects link acme/,
  ],
  [
    'an old gcloud',
    { ...healthyFacts(staging), gcloudVersion: seen('460.0.0') },
    'warning',
    'gcloud is version 460.0.0',
    'gcloud components update',
  ],
  [
    'an image that was deleted',
    { ...healthyFacts(staging), images: seen(new Set([staging.images.api])) },
    'problem',
    `${GPU} runs ${staging.images.gpu}, which is gone`,
    /up --environment staging/,
  ],
  [
    'an image without the model of the environment',
    {
      ...healthyFacts(staging),
      capabilities: new Map([
        [
          'gpu',
          seen({
            default_model: 'tiny.en',
            models: [{ name: 'tiny.en', is_multilingual: false, can_translate: false }],
            alignment_languages: ['en', 'de', 'fr', 'es', 'it'],
            can_diarize: true,
          }),
        ],
      ]),
    },
    'problem',
    'gpu has no large-v3-turbo',
    /up --environment staging/,
  ],
  [
    'an API that does not answer',
    { ...healthyFacts(staging), apiAnswers: seen(false) },
    'problem',
    `https://${API}-123456.europe-west1.run.app/health/live does not answer with 200`,
    /services logs read/,
  ],
  [
    'an organisation that forbids public services',
    withOrgPolicy('run.managed.requireInvokerIam', { spec: { rules: [{ enforce: true }] } }),
    'problem',
    'the organisation wants every caller of a service checked',
    undefined,
  ],
  [
    'an organisation that forbids the region',
    withOrgPolicy('gcp.resourceLocations', {
      spec: { rules: [{ values: { allowedValues: ['in:us-locations'] } }] },
    }),
    'problem',
    'the organisation allows no resources in europe-west1',
    undefined,
  ],
  [
    'an organisation that forbids ingress from everywhere',
    withOrgPolicy('run.allowedIngress', {
      spec: { rules: [{ values: { allowedValues: ['internal', 'is:internal-and-cloud-load-balancing'] } }] },
    }),
    'problem',
    'the organisation forbids services that take calls from everywhere',
    undefined,
  ],
];

describe('what is wrong is named with its fix', () => {
  test.each(BROKEN)('%s', (_, facts, level, what, command) => {
    const found = troubles(facts).find((one) => one.what === what);
    expect(found).toMatchObject({ level });
    const lines = (found?.commands ?? []).map(({ line }) => line);
    if (command === undefined) expect(found?.fix).toBeDefined();
    else if (typeof command === 'string') expect(lines).toContain(command);
    else expect(lines.join('\n')).toMatch(command);
  });
});

describe('a backend of Mistral’s', () => {
  const layout = variant({
    backends: [...staging.environment.backends, { kind: 'voxtral', name: 'voxtral' }],
  });
  const SECRET = 'zeroscribe-staging-mistral-api-key';
  const { cpu } = layout.accounts;
  const healthy = healthyFacts(layout);
  const found = (change: Partial<Facts>) => troubles({ ...healthy, ...change }, layout);

  test('has nothing wrong with it', () => {
    expect(troubles(healthy, layout)).toEqual([]);
  });

  test('without a key has no use', () => {
    const secrets = seen(new Map([...value(healthy.secrets), [SECRET, { hasValue: seen(false) }]]));
    expect(found({ secrets, isMistralKeyTaken: undefined })).toMatchObject([
      {
        level: 'problem',
        what: `${SECRET} has no value`,
        fix: expect.stringContaining('https://console.mistral.ai/api-keys'),
        commands: [{ line: `gcloud secrets versions add ${SECRET} --data-file=- --project=acme` }],
      },
    ]);
    // Nobody misses it where no backend needs it.
    expect(troubles({ ...healthyFacts(staging), secrets })).toEqual([]);
  });

  test('with a key that Mistral refuses is a problem, and one that cannot be tried is not', () => {
    expect(found({ isMistralKeyTaken: seen(false) })).toMatchObject([
      { level: 'problem', what: `Mistral refuses the key in ${SECRET}` },
    ]);
    const why = 'Mistral answers with 503';
    expect(found({ isMistralKeyTaken: unseen(why) })).toMatchObject([{ level: 'warning', why }]);
  });

  test('that has left keeps no right to sign', () => {
    const policies = new Map(healthyFacts(staging).policies);
    policies.set(`account ${cpu}`, healthy.policies.get(`account ${cpu}`) as Seen<Policy>);
    expect(troubles({ ...healthyFacts(staging), policies })).toMatchObject([
      {
        level: 'warning',
        what: `serviceAccount:${cpu} has roles/iam.serviceAccountTokenCreator on the account ${cpu} and needs it for nothing`,
      },
    ]);
  });
});

describe('what is right is left alone', () => {
  test.each<[string, OrgPolicy]>([
    ['run.allowedIngress', { spec: { rules: [{ allowAll: true }] } }],
    ['gcp.resourceLocations', { spec: { rules: [{ values: { allowedValues: ['in:eu-locations'] } }] } }],
    [
      'gcp.resourceLocations',
      { spec: { rules: [{ values: { allowedValues: ['in:europe-west1-locations'] } }] } },
    ],
    // Only where a tag is set.
    [
      'run.managed.requireInvokerIam',
      { spec: { rules: [{ enforce: true, condition: {} }, { enforce: false }] } },
    ],
    ['iam.allowedPolicyMemberDomains', { spec: { rules: [{ values: { allowedValues: ['is:C0abc'] } }] } }],
    ['iam.disableServiceAccountCreation', { spec: { rules: [{ enforce: true }] } }],
  ])('%s that allows it', (name, policy) => {
    expect(troubles(withOrgPolicy(name, policy))).toEqual([]);
  });

  test('a service keeps both of its addresses', () => {
    const url = 'https://zeroscribe-staging-gpu-abcdefghij-ew.a.run.app';
    const facts = withRun(GPU, (run) => {
      run.status = { ...run.status, url };
    });
    expect(troubles(facts)).toEqual([]);
  });

  test('what a stranger was given on a bucket is theirs', () => {
    const facts = withPolicy(`bucket ${staging.bucket}`, (policy) => {
      policy.bindings?.push({ role: 'roles/storage.objectViewer', members: ['user:auditor@example.com'] });
    });
    expect(troubles(facts)).toEqual([]);
  });
});

describe('before the first deploy', () => {
  const empty: Facts = {
    ...healthyFacts(staging),
    apis: seen(new Set(DOCTOR_APIS)),
    accounts: seen(new Map()),
    bucket: seen(undefined),
    queues: seen(new Map()),
    secrets: seen(new Map()),
    runs: seen([]),
    images: seen(new Set()),
    policies: new Map(),
    mayUseVertex: undefined,
    isMistralKeyTaken: undefined,
    capabilities: new Map(),
    apiAnswers: undefined,
  };

  test('what `up` makes is no problem', () => {
    const found = troubles(empty);
    expect(found.map(({ level, what }) => [level, what])).toEqual([
      ['warning', 'zeroscribe-staging-hf-token has no value'],
    ]);
    expect(reportText(examine(empty, staging))).toContain('not there yet');
  });
});

describe('what may not be looked at', () => {
  test('is a warning that says what, and the rest is looked at all the same', () => {
    const why = "Permission 'run.services.list' denied on resource 'namespaces/acme/services'";
    const nothing = Object.fromEntries(
      [
        'gcloudVersion',
        'account',
        'hasBilling',
        'apis',
        'runQuotas',
        'vertexQuotas',
        'accounts',
        'bucket',
        'queues',
        'secrets',
        'runs',
        'images',
      ].map((name) => [name, unseen(why)]),
    );
    const facts: Facts = {
      ...healthyFacts(staging),
      ...nothing,
      orgPolicies: new Map([...healthyFacts(staging).orgPolicies].map(([name]) => [name, unseen(why)])),
      policies: new Map([[`bucket ${staging.bucket}`, unseen(why)]]),
    };
    const found = troubles(facts);
    expect(found.every(({ level }) => level === 'warning')).toBe(true);
    expect(found.map(({ what }) => what)).toEqual(
      expect.arrayContaining([
        'Services and jobs could not be seen',
        'The queues could not be seen',
        `The bucket gs://${staging.bucket} could not be seen`,
        `Who may use the bucket ${staging.bucket} could not be seen`,
        'organisation policies could not be seen',
        'The quota could not be seen, so what a new project has is taken for it',
      ]),
    );
    expect(found.filter((one) => one.why === why).length).toBeGreaterThan(10);
  });
});

test('only what can be taken back and concerns nothing else is run by --fix', () => {
  const lines = BROKEN.flatMap(([, facts]) => fixesOf(examine(facts, staging))).map(({ line }) => line);
  expect(lines.length).toBeGreaterThan(25);
  expect(
    lines.filter((line) =>
      /gcloud (projects|billing|beta quotas)| delete |secrets versions|retention/.test(line),
    ),
  ).toEqual([]);
  expect(lines.filter((line) => !line.startsWith('gcloud ') || !line.endsWith(' --project=acme'))).toEqual(
    [],
  );
});

test('the report counts what it found', () => {
  const report = examine(withQueue(GPU, { state: 'PAUSED' }), staging);
  expect(countOf(report, 'problem')).toBe(1);
  expect(reportText(report)).toMatch(
    / {2}PROBLEM {2}zeroscribe-staging-gpu is paused\n {11}why: .+\n {11}fix: .+\n {13}\$ gcloud tasks queues resume/,
  );
  expect(reportText(report)).toMatch(/1 problem, 0 warnings, \d+ ok\n$/);
});

(isThere ? test : test.skip)(
  'every command that the checks name is one that gcloud has',
  async () => {
    const lines = BROKEN.flatMap(([, facts]) => troubles(facts))
      .flatMap(({ commands = [] }) => commands.map(({ line }) => line))
      .filter((line) => line.startsWith('gcloud '));
    expect(await lintGcloudCommands([...new Set(lines)])).toEqual([]);
  },
  120_000,
);
