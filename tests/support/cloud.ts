import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Storage } from '@google-cloud/storage';
import { Client } from '../../cli/client.ts';
import { type Backend, backendUrls, isJobBackend } from '../../core/backends.ts';
import { GcsBlobs } from '../../core/blobs/gcs-blobs.ts';
import { JobRecord } from '../../core/job.ts';
import { type JobRef, jobKey } from '../../core/objects.ts';
import { CloudTasksQueue, createCloudTasksClient } from '../../core/queue/cloud-tasks-queue.ts';
import { GcsRecords } from '../../core/records/gcs-records.ts';
import { CPU_QUEUE } from '../../core/tasks/task.ts';
import { type FakeCloudStorage, startFakeCloudStorage } from './fake-cloud-storage/fake-cloud-storage.ts';
import { type FakeCloudTasks, startFakeCloudTasks } from './fake-cloud-tasks/fake-cloud-tasks.ts';
import { type FakeRunApi, startFakeRunApi } from './fake-run-api/fake-run-api.ts';
import { type Service, spawnProcess, startProcess, type UnaddressedService } from './service.ts';

const SKEW_CLOCK = join(import.meta.dirname, 'skew-clock.mjs');
const BUCKET = 'recordings';
const PREFIX = 'projects/test/locations/here/queues/zeroscribe';
export const INVOKER = 'invoker@test.iam.gserviceaccount.com';
/** Addresses of services as their instances come and go. */
/** Tasks at a time of one cpu-service. */
const CPU_CONCURRENCY = 4;
const RETRY = { retryConfig: { minBackoff: '1s', maxBackoff: '4s' } };
const CPU_ORIGIN = 'http://cpu-service.test';
export const GPU_ORIGIN = 'http://gpu-service.test';
const TRANSCRIBER = { WHISPER_MODEL: 'tiny.en' };
export const OWNER = 'tester';
const API_KEY = 'a-key-of-the-tests';

export type ServiceName = 'api' | 'cpu-service' | 'gpu-service';

export interface CloudOptions {
  gpuInstances?: number;
  env?: Partial<Record<ServiceName, Record<string, string>>>;
  tasks?: Parameters<typeof startFakeCloudTasks>[0];
  /** Where jobs can go. Services are all the same instances; what is started runs gpu-service once. */
  backends?: readonly Backend[];
  /** How far off each new instance's clock is, in ms. */
  skewedClocks?: () => string;
  /** Starts an instance, if not as a process of this repository. */
  launch?: (name: ServiceName, env: Record<string, string>) => Promise<Service>;
}

/** The three services as processes of their own, as in the cloud, between fakes of Cloud Storage and Cloud Tasks. */
export interface Cloud {
  client: Client;
  storage: FakeCloudStorage;
  tasks: FakeCloudTasks;
  /** Of the APIs that start what is started for each job. */
  runs: FakeRunApi;
  /** The store, past the services. */
  blobs: GcsBlobs;
  records: GcsRecords;
  queue: CloudTasksQueue;
  instances(name: ServiceName): Service[];
  /** Of what was started for one job, in the order of the starts. */
  runProcesses: UnaddressedService[];
  /** One more, or one in the place of one that is gone. */
  start(name: ServiceName): Promise<Service>;
  /** Its address gets no more calls. The process is the caller's to end. */
  forget(name: ServiceName, service: Service): void;
  /** Of all instances there were. */
  log(): Record<string, unknown>[];
  record(job: JobRef): Promise<JobRecord>;
  /** Does not wait for the minute in which reconcile would come by itself. */
  reconcile(): Promise<void>;
  stop(): Promise<void>;
}

const ONE_SERVICE: Backend[] = [
  { name: 'cloud-run-service', tier: 'premium', kind: 'cloud-run-service', url: GPU_ORIGIN },
];

export async function startCloud({
  gpuInstances = 1,
  env = {},
  backends = ONE_SERVICE,
  tasks: taskOptions = {},
  skewedClocks,
  launch = (name, variables) => startProcess(['--import', SKEW_CLOCK, `${name}/main.ts`], variables),
}: CloudOptions = {}): Promise<Cloud> {
  const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-cloud-'));
  const storage = await startFakeCloudStorage({ folder: join(folder, 'bucket'), buckets: [BUCKET] });
  const queues = backendUrls(backends, { cpuService: CPU_ORIGIN });
  const tasks = await startFakeCloudTasks({
    // As the deploy sets them: what waits for an instance waits in its queue.
    queues: {
      [`${PREFIX}-cpu`]: { ...RETRY, rateLimits: { maxConcurrentDispatches: CPU_CONCURRENCY } },
      ...Object.fromEntries(
        Object.keys(queues).map((name) => [
          `${PREFIX}-${name}`,
          { ...RETRY, rateLimits: { maxConcurrentDispatches: Math.max(1, gpuInstances) } },
        ]),
      ),
    },
    ...taskOptions,
  });
  const bucket = new Storage({ apiEndpoint: storage.url, projectId: 'test' }).bucket(BUCKET);
  const records = new GcsRecords(bucket);
  const queue = new CloudTasksQueue(await createCloudTasksClient({ apiEndpoint: tasks.url }), {
    queuePrefix: PREFIX,
    services: { [CPU_QUEUE]: CPU_ORIGIN, ...queues },
    invokerEmail: INVOKER,
  });
  let reconciles = 0;
  const everyone: Service[] = [];
  const running: Record<ServiceName, Service[]> = { api: [], 'cpu-service': [], 'gpu-service': [] };

  const common = {
    STORE: 'gcs',
    GCS_BUCKET: BUCKET,
    STORAGE_API_ENDPOINT: storage.url,
    CLOUD_TASKS_QUEUES: PREFIX,
    CLOUD_TASKS_API_ENDPOINT: tasks.url,
    CPU_SERVICE_URL: CPU_ORIGIN,
    TASK_INVOKER_EMAIL: INVOKER,
    BACKENDS: JSON.stringify(backends),
  };
  const called = { TASK_AUTH: 'verify', TASK_OIDC_CERTS_URL: tasks.certsUrl };
  const runProcesses: UnaddressedService[] = [];
  const runs = await startFakeRunApi({
    jobs: backends.flatMap((backend) => (backend.kind === 'cloud-run-job' ? [backend.job] : [])),
    spawn(execution) {
      const name = backends.find((one) => isJobBackend(one) && one.job === execution.parent)?.name ?? '';
      // As an execution gets it: the environment of gpu-service, but nothing about callers.
      const run = spawnProcess(['gpu-service/main.ts'], {
        ...common,
        ...TRANSCRIBER,
        ...env['gpu-service'],
        BACKEND: name,
        ...execution.env,
      });
      runProcesses.push(run);
      const exited = once(run.process, 'exit').then(([code]) => code as number | null);
      return { exited, kill: (signal) => void run.process.kill(signal) };
    },
  });
  const own: Record<ServiceName, Record<string, string>> = {
    api: { API_KEYS: `${OWNER}:${API_KEY}` },
    'cpu-service': {
      ...called,
      TASK_AUDIENCE: CPU_ORIGIN,
      RUN_API_ENDPOINT: runs.url,
      VERTEX_API_ENDPOINT: runs.url,
    },
    'gpu-service': {
      ...called,
      TASK_AUDIENCE: GPU_ORIGIN,
      BACKEND: backends.find((one) => 'url' in one)?.name ?? '',
      ...TRANSCRIBER,
    },
  };
  const announce = () => {
    tasks.setService(CPU_ORIGIN, {
      instances: running['cpu-service'].map(({ url }) => url),
      concurrency: CPU_CONCURRENCY,
    });
    tasks.setService(GPU_ORIGIN, { instances: running['gpu-service'].map(({ url }) => url), concurrency: 1 });
  };
  let apiPort: string | undefined;
  const start = async (name: ServiceName) => {
    const clock = skewedClocks === undefined ? {} : { CLOCK_SKEW_MS: skewedClocks() };
    const service = await launch(name, {
      ...common,
      ...own[name],
      ...env[name],
      ...clock,
      ...(name === 'api' && apiPort !== undefined ? { PORT: apiPort } : {}),
    });
    // Clients know the API by its address, whichever instance it is.
    if (name === 'api') apiPort ??= new URL(service.url).port;
    running[name].push(service);
    everyone.push(service);
    announce();
    return service;
  };

  const [api] = await Promise.all([
    start('api'),
    start('cpu-service'),
    ...Array.from({ length: gpuInstances }, () => start('gpu-service')),
  ]);
  return {
    client: new Client(api.url, API_KEY),
    storage,
    tasks,
    runs,
    runProcesses,
    blobs: new GcsBlobs(bucket),
    records,
    queue,
    log: () => [...everyone, ...runProcesses].flatMap(({ log }) => log),
    async reconcile() {
      reconciles += 1;
      await queue.enqueue({
        queue: CPU_QUEUE,
        name: `reconcile-now-${reconciles}`,
        payload: { type: 'reconcile' },
      });
    },
    instances: (name) => running[name],
    start,
    forget(name, service) {
      running[name] = running[name].filter((other) => other !== service);
      announce();
    },
    async record(job) {
      const stored = await records.read(jobKey(job));
      return JobRecord.parse(stored?.value);
    },
    async stop() {
      await Promise.all(
        Object.values(running)
          .flat()
          .map((service) => service.stop()),
      );
      await tasks.close();
      await runs.close();
      await storage.close();
      await rm(folder, { recursive: true });
    },
  };
}
