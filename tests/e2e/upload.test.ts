import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Storage } from '@google-cloud/storage';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import * as tus from 'tus-js-client';
import type { Blobs } from '../../core/blobs/blobs.ts';
import { DiskBlobs } from '../../core/blobs/disk-blobs.ts';
import { GcsBlobs } from '../../core/blobs/gcs-blobs.ts';
import { uploadMediaKey } from '../../core/objects.ts';
import { startBreakingProxy } from '../support/breaking-proxy.ts';
import {
  type FakeCloudStorage,
  startFakeCloudStorage,
} from '../support/fake-cloud-storage/fake-cloud-storage.ts';
import { type FakeCloudTasks, startFakeCloudTasks } from '../support/fake-cloud-tasks/fake-cloud-tasks.ts';
import { type Service, startProcess } from '../support/service.ts';

// `npm run chaos -- upload` is the long form of this.
const isLong = process.env.UPLOAD_CHAOS === 'long';
const SIZE_BYTES = isLong ? 1_000_000_000 : 48_000_000;
const BREAKS = isLong ? 20 : 6;
const KILLS = isLong ? 2 : 1;
const KEY = 'a-key-of-the-tests';
const BUCKET = 'recordings';
const QUEUES = 'projects/test/locations/here/queues/zeroscribe';

let folder: string;
let file: string;
let sha256: string;
let storage: FakeCloudStorage;
let tasks: FakeCloudTasks;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'upload-'));
  file = join(folder, 'board.mp4');
  const hash = createHash('sha256');
  await pipeline(
    Readable.from(noise(SIZE_BYTES)),
    async function* (pieces: AsyncIterable<Buffer>) {
      for await (const piece of pieces) {
        hash.update(piece);
        yield piece;
      }
    },
    createWriteStream(file),
  );
  sha256 = hash.digest('hex');
  storage = await startFakeCloudStorage({ folder: join(folder, 'bucket'), buckets: [BUCKET] });
  tasks = await startFakeCloudTasks({ queues: { [`${QUEUES}-cpu`]: {} } });
}, 300_000);
afterAll(async () => {
  await tasks.close();
  await storage.close();
  await rm(folder, { recursive: true });
});

/** Faster than random numbers, and as little alike anywhere. */
function* noise(sizeBytes: number): Generator<Buffer> {
  const cipher = createCipheriv('aes-128-ctr', randomBytes(16), randomBytes(16));
  const zeros = Buffer.alloc(1_000_000);
  for (let at = 0; at < sizeBytes; at += zeros.length) {
    yield cipher.update(zeros.subarray(0, sizeBytes - at));
  }
}

async function smallUpload({ url }: Service): Promise<void> {
  const answer = await fetch(`${url}/v1/uploads`, {
    method: 'POST',
    body: randomBytes(1_000_000),
    headers: {
      authorization: `Bearer ${KEY}`,
      'tus-resumable': '1.0.0',
      'upload-length': '1000000',
      'content-type': 'application/offset+octet-stream',
    },
  });
  expect(answer.status).toBe(201);
}

/** 0 where the system does not tell, and for a process that has ended. */
function residentBytes({ process: { pid } }: Service): number {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * 4096;
  } catch {
    return 0;
  }
}

async function hashOf(body: Readable): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(body, hash);
  return hash.digest('hex');
}

describe.each<[string, () => { env: Record<string, string>; blobs: Blobs; instances: number }]>([
  [
    'a folder',
    () => ({
      env: { STORE: 'disk', DATA_DIR: join(folder, 'data') },
      blobs: new DiskBlobs(join(folder, 'data', 'blobs')),
      instances: 1,
    }),
  ],
  [
    'Cloud Storage',
    () => ({
      env: { STORE: 'gcs', GCS_BUCKET: BUCKET, STORAGE_API_ENDPOINT: storage.url },
      blobs: new GcsBlobs(new Storage({ apiEndpoint: storage.url, projectId: 'test' }).bucket(BUCKET)),
      // Each connection that breaks moves the upload from one to the other.
      instances: 2,
    }),
  ],
])('a long upload to %s', (store, makeStore) => {
  test(`of ${SIZE_BYTES} bytes survives ${BREAKS} broken connections and ${KILLS} deaths of the API`, async () => {
    const { env, blobs, instances } = makeStore();
    const start = () =>
      startProcess(['api/main.ts'], {
        ...env,
        PORT: '0',
        API_KEYS: `tester:${KEY}`,
        CLOUD_TASKS_QUEUES: QUEUES,
        CLOUD_TASKS_API_ENDPOINT: tasks.url,
        CPU_SERVICE_URL: 'http://cpu-service.test',
        TASK_INVOKER_EMAIL: 'invoker@test.iam.gserviceaccount.com',
        BACKENDS: JSON.stringify([
          { name: 'server', tier: 'premium', kind: 'server', url: 'http://gpu-service.test' },
        ]),
      });
    const apis = await Promise.all(Array.from({ length: instances }, start));
    // The first request loads the clients of store and queue, once and for all.
    await Promise.all(apis.map(smallUpload));
    const idleBytes = Math.max(...apis.map(residentBytes));
    let peakBytes = 0;
    const watch = setInterval(() => {
      peakBytes = Math.max(peakBytes, ...apis.map(residentBytes));
    }, 100);
    const startedMs = performance.now();
    const breaks = Array.from({ length: BREAKS }, () => Math.ceil(Math.random() * SIZE_BYTES));
    const kills = Array.from({ length: KILLS }, (_, i) => ((i + 1) * SIZE_BYTES) / (KILLS + 1));
    let serving = 0;
    const proxy = await startBreakingProxy(() => {
      serving = (serving + 1) % instances;
      return (apis[serving] as Service).url;
    }, breaks);
    let restarting = Promise.resolve();
    try {
      const url = await new Promise<string>((resolve, reject) => {
        const upload: tus.Upload = new tus.Upload(createReadStream(file), {
          endpoint: `${proxy.url}/v1/uploads`,
          headers: { authorization: `Bearer ${KEY}` },
          metadata: { filename: 'board.mp4' },
          retryDelays: Array.from({ length: 200 }, () => 100),
          onProgress: (sentBytes) => {
            if (kills[0] === undefined || sentBytes < kills[0]) return;
            kills.shift();
            const killed = serving;
            restarting = (apis[killed] as Service).kill().then(async () => {
              apis[killed] = await start();
            });
            restarting.catch(reject);
          },
          onSuccess: () => resolve(upload.url as string),
          onError: reject,
        });
        upload.start();
      });
      await restarting;
      const seconds = (performance.now() - startedMs) / 1_000;
      console.log(
        `${SIZE_BYTES / 1e6} MB to ${store} in ${seconds.toFixed(1)} s; the API needed ` +
          `${((peakBytes - idleBytes) / 1e6).toFixed(0)} MB more than idle`,
      );
      expect(kills).toEqual([]);
      expect(proxy.broken()).toBe(BREAKS);
      const key = uploadMediaKey({ owner: 'tester', id: url.slice(url.lastIndexOf('/') + 1) });
      expect(await hashOf(await blobs.read(key))).toBe(sha256);
    } finally {
      clearInterval(watch);
      await proxy.close();
      await restarting.catch(() => {});
      await Promise.all(apis.map((api) => api.stop()));
    }
  }, 300_000);
});
