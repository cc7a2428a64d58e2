import { join, resolve } from 'node:path';
import type { Storage } from '@google-cloud/storage';
import { z } from 'zod';
import { type Backend, backendUrls, parseBackends } from './backends.ts';
import type { Blobs } from './blobs/blobs.ts';
import { DiskBlobs } from './blobs/disk-blobs.ts';
import { GcsBlobs } from './blobs/gcs-blobs.ts';
import { CLOUD_STORAGE_ENVIRONMENT, openCloudStorage } from './cloud-storage/open-cloud-storage.ts';
import { ConfigError, parsed, readEnvironment } from './environment.ts';
import { CloudTasksQueue, createCloudTasksClient } from './queue/cloud-tasks-queue.ts';
import type { Queue } from './queue/queue.ts';
import { GcsRecords } from './records/gcs-records.ts';
import type { Records } from './records/records.ts';
import { SqliteRecords } from './records/sqlite-records.ts';
import { openDatabase } from './sqlite.ts';
import { CPU_QUEUE } from './tasks/task.ts';

/** What the three services have in common: where everything is kept, and how tasks travel. */
export const PLATFORM_ENVIRONMENT = z.object({
  STORE: z
    .enum(['disk', 'gcs'])
    .default('disk')
    .describe('Where media, records and transcripts are kept: `disk` (the default) or `gcs`.'),
  DATA_DIR: z
    .string()
    .default('./data')
    .describe('Folder for recordings, transcripts and the job database; default `./data`.'),
  GCS_BUCKET: z.string().optional().describe('The bucket; needed with `STORE=gcs`.'),
  STORE_MOUNT: z
    .string()
    .optional()
    .describe('Where the bucket is mounted read-only; without it, media is downloaded before it is decoded.'),
  ...CLOUD_STORAGE_ENVIRONMENT.shape,
  CLOUD_TASKS_QUEUES: z
    .string()
    .regex(
      /^projects\/[^/]+\/locations\/[^/]+\/queues\/[^/]+$/,
      'must be projects/P/locations/L/queues/PREFIX',
    )
    .describe('`projects/P/locations/L/queues/PREFIX`; the queues are `PREFIX-cpu` and `PREFIX-<backend>`.'),
  CLOUD_TASKS_API_ENDPOINT: z.url().optional().describe('An emulator of Cloud Tasks (REST).'),
  CPU_SERVICE_URL: z.url().describe('Address of cpu-service, also the audience of its tokens.'),
  TASK_INVOKER_EMAIL: z.string().describe('The service account that calls the private services.'),
  BACKENDS: parsed(parseBackends).describe(
    'JSON list of `{name, tier, kind, url | job, max_running, shape, …}`, in order of preference; see operations.md.',
  ),
});

export interface PlatformConfig {
  store: { kind: 'disk'; dataDir: string } | { kind: 'gcs'; bucket: string; mountPath?: string };
  storageApiEndpoint: string | undefined;
  tasks: {
    queuePrefix: string;
    apiEndpoint: string | undefined;
    cpuServiceUrl: string;
    invokerEmail: string;
  };
  backends: Backend[];
}

export interface Platform {
  /** Cloud Storage with the service's own rights, whatever the store is: it may hold the sources of jobs. */
  storage: Storage;
  blobs: Blobs;
  records: Records;
  queue: Queue;
  backends: readonly Backend[];
  close(): void;
}

/** @throws {ConfigError} */
export function readPlatformConfig(env: NodeJS.ProcessEnv): PlatformConfig {
  const values = readEnvironment(PLATFORM_ENVIRONMENT, env);
  return {
    store: storeConfig(values),
    storageApiEndpoint: values.STORAGE_API_ENDPOINT,
    tasks: {
      queuePrefix: values.CLOUD_TASKS_QUEUES,
      apiEndpoint: values.CLOUD_TASKS_API_ENDPOINT,
      cpuServiceUrl: values.CPU_SERVICE_URL,
      invokerEmail: values.TASK_INVOKER_EMAIL,
    },
    backends: values.BACKENDS,
  };
}

function storeConfig(values: z.infer<typeof PLATFORM_ENVIRONMENT>): PlatformConfig['store'] {
  if (values.STORE === 'disk') return { kind: 'disk', dataDir: resolve(values.DATA_DIR) };
  if (values.GCS_BUCKET === undefined) throw new ConfigError('STORE=gcs needs GCS_BUCKET.');
  return {
    kind: 'gcs',
    bucket: values.GCS_BUCKET,
    ...(values.STORE_MOUNT === undefined ? {} : { mountPath: values.STORE_MOUNT }),
  };
}

export async function openPlatform({
  store,
  storageApiEndpoint,
  tasks,
  backends,
}: PlatformConfig): Promise<Platform> {
  const cpuService = tasks.cpuServiceUrl;
  const services = { ...backendUrls(backends, { cpuService }), [CPU_QUEUE]: cpuService };
  const client = await createCloudTasksClient(
    tasks.apiEndpoint === undefined ? {} : { apiEndpoint: tasks.apiEndpoint },
  );
  const queue = new CloudTasksQueue(client, {
    queuePrefix: tasks.queuePrefix,
    services,
    invokerEmail: tasks.invokerEmail,
  });
  const storage = await openCloudStorage(storageApiEndpoint);
  if (store.kind === 'disk') {
    const database = openDatabase(join(store.dataDir, 'zeroscribe.sqlite'));
    return {
      storage,
      blobs: new DiskBlobs(join(store.dataDir, 'blobs')),
      records: new SqliteRecords(database),
      queue,
      backends,
      close: () => database.close(),
    };
  }
  const bucket = storage.bucket(store.bucket);
  const { mountPath } = store;
  return {
    storage,
    blobs: new GcsBlobs(bucket, mountPath === undefined ? {} : { mountPath }),
    records: new GcsRecords(bucket),
    queue,
    backends,
    close: () => {},
  };
}
