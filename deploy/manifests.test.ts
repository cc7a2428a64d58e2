import { describe, expect, it } from '@jest/globals';
import { parse } from 'yaml';
import { API_ENVIRONMENT, readApiConfig } from '../api/config.ts';
import { parseBackends } from '../core/backends.ts';
import { SPEND_ENVIRONMENT } from '../core/costs/cost-settings.ts';
import { LOG_ENVIRONMENT, readLogLevel } from '../core/environment.ts';
import { newJobId } from '../core/objects.ts';
import { PLATFORM_ENVIRONMENT, readPlatformConfig } from '../core/platform.ts';
import {
  PRIVATE_SERVICE_ENVIRONMENT,
  RUN_ONCE_ENVIRONMENT,
  readPrivateServiceConfig,
  readRunOnceConfig,
} from '../core/private-service.ts';
import { readSourceLimits, SOURCE_ENVIRONMENT } from '../core/source-limits.ts';
import { checkMistralConfig, MISTRAL_ENVIRONMENT, readMistralConfig } from '../cpu-service/voxtral/config.ts';
import {
  BACKEND_ENVIRONMENT,
  GPU_ENVIRONMENT,
  readBackendName,
  readGpuConfig,
} from '../gpu-service/config.ts';
import { type Environment, loadEnvironment, parseEnvironment, refuseSharedPrefix } from './environment.ts';
import staging from './environments/staging.ts';
import { type Container, type Manifest, toYaml } from './knative.ts';
import { layOut } from './layout.ts';
import { manifests } from './manifests.ts';

const TAGS = { api: 'a1', gpu: 'g1' };
const PROJECT = { id: 'my-project', number: '123456789012' };
const SECRETS: Record<string, string> = {
  'zeroscribe-staging-api-keys': 'staging:a-key-of-the-tests',
  'zeroscribe-staging-url-signing-key': 'a-signing-key-of-the-tests',
  'zeroscribe-staging-mistral-api-key': 'a-key-for-mistral-of-the-tests',
};

/** With every setting that reaches a manifest. */
const everything = parseEnvironment('everything', {
  ...staging,
  backends: [
    ...staging.backends,
    { kind: 'server', name: 'gpu-box', url: 'https://gpu.example.com', minDurationSeconds: 3_600 },
    { kind: 'vertex-job', name: 'flex', strategy: 'FLEX_START', location: 'europe-west4' },
    { kind: 'voxtral', name: 'voxtral', model: 'voxtral-mini-2602', maxRunning: 6 },
  ],
  gcsSources: ['gs://others/talks/'],
  linkNetworks: ['10.1.0.0/16'],
  maxUploadBytes: 1_000_000,
  dailySpendLimitUsd: 50,
  logLevel: 'debug',
  api: { ...staging.api, publicUrl: 'https://transcribe.example.com' },
});

interface Probe {
  httpGet: { path: string };
  periodSeconds: number;
  timeoutSeconds: number;
  failureThreshold: number;
}

interface Deployable {
  name: string;
  container: Container;
  /** As the process will see them. */
  env: Record<string, string>;
  manifest: Manifest;
  annotations: Record<string, string>;
  podSpec: Record<string, unknown>;
}

function deployables(environment: Environment): Deployable[] {
  return manifests(layOut(environment, PROJECT, TAGS)).map((made) => {
    // As gcloud will read it.
    const manifest = parse(toYaml(made)) as Manifest;
    // biome-ignore lint/suspicious/noExplicitAny: two deep shapes of Google's
    const spec = manifest.spec as any;
    const podSpec = manifest.kind === 'Job' ? spec.template.spec.template.spec : spec.template.spec;
    const [container] = podSpec.containers as [Container];
    const env = Object.fromEntries(
      container.env.map((one) => [
        one.name,
        'value' in one ? one.value : (SECRETS[one.valueFrom.secretKeyRef.name] ?? ''),
      ]),
    );
    const name = manifest.metadata.name.replace('zeroscribe-staging-', '');
    // Cloud Run sets it in every service.
    const platform = manifest.kind === 'Service' ? { PORT: '8080', K_SERVICE: name } : { PORT: '8080' };
    const { annotations } = spec.template.metadata;
    return { name, container, env: { ...env, ...platform }, manifest, annotations, podSpec };
  });
}

function named(all: Deployable[], name: string): Deployable {
  const found = all.find((one) => one.name === name);
  if (found === undefined) throw new Error(`there is no manifest of ${name}`);
  return found;
}

const INSTALLATION = {
  python: 'python',
  ffmpeg: 'ffmpeg',
  device: 'cuda' as const,
  packaged_model: { name: 'tiny.en', path: '/models/tiny.en' },
};

const platformSchemas = [PLATFORM_ENVIRONMENT, SOURCE_ENVIRONMENT, LOG_ENVIRONMENT];
const privateSchemas = [...platformSchemas, PRIVATE_SERVICE_ENVIRONMENT];
const KNOWN = {
  api: [...platformSchemas, API_ENVIRONMENT, SPEND_ENVIRONMENT],
  cpu: [...privateSchemas, MISTRAL_ENVIRONMENT, SPEND_ENVIRONMENT],
  gpu: [...privateSchemas, RUN_ONCE_ENVIRONMENT, BACKEND_ENVIRONMENT, GPU_ENVIRONMENT],
};

function unknownVariables(container: Container, schemas: readonly { shape: object }[]): string[] {
  const known = new Set(schemas.flatMap(({ shape }) => Object.keys(shape)));
  return container.env.map(({ name }) => name).filter((name) => !known.has(name));
}

describe.each([
  ['staging', () => loadEnvironment('staging')],
  ['an environment with every setting', async () => everything],
])('the manifests of %s', (_, load) => {
  it('give the API an environment that it reads', async () => {
    const api = named(deployables(await load()), 'api');
    expect(unknownVariables(api.container, KNOWN.api)).toEqual([]);
    expect(readApiConfig(api.env)).toMatchObject({ host: '0.0.0.0', port: 8_080, http2: true });
    expect(readApiConfig(api.env).keys).toHaveLength(1);
    expect(readPlatformConfig(api.env).tasks.cpuServiceUrl).toBe(
      'https://zeroscribe-staging-cpu-123456789012.europe-west1.run.app',
    );
    readLogLevel(api.env);
  });

  it('give cpu-service an environment that it reads, with the bucket mounted read-only', async () => {
    const cpu = named(deployables(await load()), 'cpu');
    expect(unknownVariables(cpu.container, KNOWN.cpu)).toEqual([]);
    readPrivateServiceConfig(cpu.env);
    readSourceLimits(cpu.env);
    const { store, backends } = readPlatformConfig(cpu.env);
    checkMistralConfig(readMistralConfig(cpu.env), backends);
    expect(store).toEqual({
      kind: 'gcs',
      bucket: 'my-project-zeroscribe-staging',
      mountPath: '/mnt/store',
    });
    expect(cpu.container.volumeMounts).toEqual([{ name: 'store', mountPath: '/mnt/store' }]);
    expect(cpu.podSpec.volumes).toEqual([
      {
        name: 'store',
        csi: {
          driver: 'gcsfuse.run.googleapis.com',
          readOnly: true,
          volumeAttributes: { bucketName: 'my-project-zeroscribe-staging' },
        },
      },
    ]);
  });

  it('give gpu-service, on a service, a job and Vertex AI, an environment that it reads', async () => {
    const environment = await load();
    const made = deployables(environment);
    const vertex = parseBackends(named(made, 'cpu').env.BACKENDS ?? '').filter(
      (one) => one.kind === 'vertex-job',
    );
    expect(vertex.length).toBeGreaterThan(0);
    const containers = [
      ...['gpu', 'gpu-job'].map((name) => named(made, name).container.env),
      // biome-ignore lint/suspicious/noExplicitAny: the shape of Vertex AI
      ...vertex.map(({ spec }) => (spec as any).workerPoolSpecs[0].containerSpec.env),
    ];
    for (const container of containers) {
      const env = Object.fromEntries(container.map(({ name, value }: never) => [name, value]));
      expect(unknownVariables({ env: container } as never, KNOWN.gpu)).toEqual([]);
      const { backends } = readPlatformConfig(env);
      expect(backends.map(({ name }) => name)).toContain(readBackendName(env, backends));
      expect(readGpuConfig(env, INSTALLATION).whisperModel).toBe('large-v3-turbo');
      readSourceLimits(env);
    }
    readPrivateServiceConfig(named(made, 'gpu').env);
  });

  it('name every caller and every address alike', async () => {
    const made = deployables(await load());
    const audiences = ['cpu', 'gpu'].map((name) => named(made, name).env.TASK_AUDIENCE);
    const { tasks, backends } = readPlatformConfig(named(made, 'api').env);
    const gpu = backends.find(({ name }) => name === 'gpu');
    expect([tasks.cpuServiceUrl, gpu && 'url' in gpu ? gpu.url : undefined]).toEqual(audiences);
    expect(new Set(made.map(({ env }) => env.TASK_INVOKER_EMAIL)).size).toBe(1);
    expect(named(made, 'api').env.BACKENDS).toBe(named(made, 'cpu').env.BACKENDS);
  });
});

it('the list of backends says what an instance of each is, for its price', () => {
  const backends = parseBackends(named(deployables(everything), 'cpu').env.BACKENDS ?? '');
  const l4 = { region: 'europe-west1', gpu: 'nvidia-l4', vcpu: 4, memory_gib: 16 };
  const g2 = { ...l4, vcpu: 8, memory_gib: 32, machine_type: 'g2-standard-8' };
  expect(Object.fromEntries(backends.map(({ name, shape }) => [name, shape]))).toEqual({
    gpu: l4,
    'gpu-job': l4,
    vertex: { ...g2, strategy: 'SPOT' },
    'gpu-box': undefined,
    flex: { ...g2, region: 'europe-west4', strategy: 'FLEX_START' },
    voxtral: undefined,
  });
});

it('Mistral’s API is asked by cpu-service alone, which has room for its jobs besides its own', () => {
  const made = deployables(everything);
  const cpu = named(made, 'cpu');
  expect(made.filter(({ env }) => 'MISTRAL_API_KEY' in env)).toEqual([cpu]);
  expect(cpu.env.MISTRAL_API_KEY).toBe('a-key-for-mistral-of-the-tests');
  expect(cpu.podSpec.containerConcurrency).toBe(4 + 6);
  expect(parseBackends(cpu.env.BACKENDS ?? '').at(-1)).toEqual({
    name: 'voxtral',
    kind: 'voxtral',
    tier: 'standard',
    model: 'voxtral-mini-2602',
    max_running: 6,
  });
});

it('a limit on a day’s spending is told to those who let jobs in and choose where they run', () => {
  const limited = deployables({ ...everything, dailySpendLimitUsd: 20 });
  const told = limited.filter(({ env }) => env.DAILY_SPEND_LIMIT_USD === '20').map(({ name }) => name);
  expect(told).toEqual(['cpu', 'api']);
});

it('a run of a job ends by itself before the platform ends it', async () => {
  const made = deployables(await loadEnvironment('staging'));
  // As start-run adds it.
  const RUN_TASK = JSON.stringify({
    type: 'transcribe',
    job: { owner: 'me', id: newJobId(Date.now()) },
    part: 1,
  });
  const job = named(made, 'gpu-job');
  const once = readRunOnceConfig({ ...job.env, RUN_TASK });
  expect(once?.callLimitMs).toBe((Number(job.podSpec.timeoutSeconds) - 600) * 1_000);
});

describe('what Cloud Run refuses or bills', () => {
  const made = deployables(everything);

  it('keeps a GPU service at what a new project may have', () => {
    const { annotations, podSpec, container, manifest } = named(made, 'gpu');
    expect(annotations).toMatchObject({
      'autoscaling.knative.dev/minScale': '0',
      'run.googleapis.com/cpu-throttling': 'false',
      'run.googleapis.com/gpu-zonal-redundancy-disabled': 'true',
      'run.googleapis.com/execution-environment': 'gen2',
    });
    expect(manifest.metadata.annotations).toEqual({
      'run.googleapis.com/ingress': 'internal',
      'run.googleapis.com/invoker-iam-disabled': 'false',
    });
    expect(podSpec).toMatchObject({
      containerConcurrency: 1,
      timeoutSeconds: 3_600,
      nodeSelector: { 'run.googleapis.com/accelerator': 'nvidia-l4' },
    });
    expect(container.resources.limits).toEqual({ cpu: '4', memory: '16Gi', 'nvidia.com/gpu': '1' });
  });

  it('never asks for more than an hour of a GPU job, and never lets Cloud Run try again', () => {
    expect(named(made, 'gpu-job').podSpec).toMatchObject({ maxRetries: 0, timeoutSeconds: '3600' });
    expect(named(made, 'gpu-job').annotations['run.googleapis.com/gpu-zonal-redundancy-disabled']).toBe(
      'true',
    );
  });

  it('gives every service 240 s to start, asked often at a path that reaches the container', () => {
    for (const { manifest, container } of made) {
      if (manifest.kind === 'Job') continue;
      const probe = container.startupProbe as unknown as Probe;
      expect(probe.periodSeconds * probe.failureThreshold).toBeLessThanOrEqual(240);
      expect(probe.timeoutSeconds).toBeLessThanOrEqual(probe.periodSeconds);
      expect(probe.periodSeconds).toBeLessThanOrEqual(3);
      expect(probe.httpGet.path).toMatch(/[^z]$/);
    }
  });

  it('fits the memory and processors that a new project has in a region', async () => {
    const staging = deployables(await loadEnvironment('staging'));
    // All of it at once, with a run of the job beside the service.
    const total = (read: (one: Deployable) => number) =>
      staging.reduce(
        (sum, one) => sum + read(one) * Number(one.annotations['autoscaling.knative.dev/maxScale'] ?? 1),
        0,
      );
    expect(
      total(({ container }) => Number.parseInt(container.resources.limits.memory ?? '', 10)),
    ).toBeLessThanOrEqual(40);
    expect(total(({ container }) => Number(container.resources.limits.cpu))).toBeLessThanOrEqual(20);
  });

  it('lets the image start what it starts, tini first', () => {
    for (const { container } of made) expect(container).not.toHaveProperty('command');
    const [api, cpu] = ['api', 'cpu'].map((name) => named(made, name).container.args);
    expect([api, cpu]).toEqual([
      ['node', 'api/main.js'],
      ['node', 'cpu-service/main.js'],
    ]);
    expect(named(made, 'gpu').container).not.toHaveProperty('args');
  });

  it('has no variable that Cloud Run reserves', () => {
    for (const { container } of made) {
      const names = container.env.map(({ name }) => name);
      expect(names).not.toContain('PORT');
      expect(names.filter((name) => name.startsWith('K_'))).toEqual([]);
      expect(new Set(names).size).toBe(names.length);
    }
  });
});

describe('an environment', () => {
  it('is refused with everything that is wrong with it', () => {
    const wrong = () =>
      parseEnvironment('mine', {
        ...staging,
        prefix: 'Much-Too-Long-For-A-Service-Account',
        backends: [{ kind: 'cloud-run-service', name: 'gpu', shape: '2x8' }],
        regoin: 'europe-west1',
      });
    expect(wrong).toThrow(/deploy\/environments\/mine\.ts is not valid:\n {2}/);
    expect(wrong).toThrow(/prefix: must be of at most 22/);
    expect(wrong).toThrow(/backends\.0\.shape: must be 4x16 or 8x32/);
    expect(wrong).toThrow(/there is no regoin/);
  });

  it('is refused when its parts contradict each other', () => {
    const of = (changes: object) => () => parseEnvironment('mine', { ...staging, ...changes });
    expect(of({ backends: [staging.backends[0], staging.backends[0]] })).toThrow(/two backends gpu/);
    const voxtral = { kind: 'voxtral', name: 'voxtral' };
    expect(of({ backends: [...staging.backends, voxtral] })).not.toThrow();
    const { mistralApiKey, ...secrets } = staging.secrets;
    expect(of({ backends: [...staging.backends, voxtral], secrets })).toThrow(
      /secrets\.mistralApiKey: must be a name/,
    );
    expect(of({ backends: [...staging.backends, { ...voxtral, tier: 'premium' }] })).toThrow(/tier/);
    expect(of({ api: { access: 'iam' } })).toThrow(/api\.invokers: must name/);
    expect(of({ backends: [{ ...staging.backends[0], tier: 'standard' }] })).toThrow(/tier premium/);
  });

  it('that is not there is answered with those that are', async () => {
    await expect(loadEnvironment('prod')).rejects.toThrow(/no environment prod.*staging/);
  });

  it('is refused when another file has its prefix', () => {
    const inputs = new Map([
      ['staging', { prefix: 'one' }],
      ['production', { prefix: 'two' }],
      ['copy', { prefix: 'one' }],
    ]);
    const check = (name: string, prefix: string) => () => refuseSharedPrefix({ name, prefix }, inputs);
    expect(check('production', 'two')).not.toThrow();
    expect(check('staging', 'one')).toThrow(/staging\.ts and copy\.ts have the same prefix, one/);
  });
});
