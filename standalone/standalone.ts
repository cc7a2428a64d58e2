import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createApp } from '../api/app.ts';
import { listen } from '../api/listen.ts';
import { forgetUploadLocks } from '../api/uploads/upload-lock.ts';
import type { Backend } from '../core/backends.ts';
import { DiskBlobs } from '../core/blobs/disk-blobs.ts';
import { writeCapabilities } from '../core/capabilities.ts';
import { cloudStorageWhenNeeded } from '../core/cloud-storage/open-cloud-storage.ts';
import type { Logger } from '../core/log.ts';
import { ServiceError } from '../core/problem.ts';
import { SqliteQueue } from '../core/queue/sqlite-queue.ts';
import { SqliteRecords } from '../core/records/sqlite-records.ts';
import { openDatabase } from '../core/sqlite.ts';
import type { Outcome } from '../core/tasks/outcome.ts';
import { CPU_QUEUE, type TaskPayload } from '../core/tasks/task.ts';
import { LOCAL_TIMING, type WorkerContext } from '../core/tasks/worker-context.ts';
import { EmbeddedQueue } from '../core/triggers/embedded-queue.ts';
import { expireUpload } from '../cpu-service/expire-upload.ts';
import { type IngestTools, ingest } from '../cpu-service/ingest.ts';
import { reconcile, sweepUnfinishedUploads } from '../cpu-service/reconcile.ts';
import { transcribeWithVoxtral } from '../cpu-service/voxtral/transcribe-with-voxtral.ts';
import { voxtralTools } from '../cpu-service/voxtral/voxtral-tools.ts';
import { stopWorker } from '../gpu-service/stop-worker.ts';
import { transcribeJob } from '../gpu-service/transcribe-job.ts';
import type { Transcriber } from '../gpu-service/transcriber.ts';
import type { StandaloneConfig } from './config.ts';
import { explainFolder } from './own-folder.ts';

const BACKEND = 'standalone';
const VOXTRAL = 'voxtral';
/** Jobs at Mistral's API at a time: they mostly wait. */
const VOXTRAL_CONCURRENCY = 4;
const DATABASE = 'zeroscribe.sqlite';
/** As long as a session of Cloud Storage, and a day: whoever began it has given it up. */
const PARTIAL_LIFETIME_MS = 8 * 24 * 3_600_000;
/** One after the other, and together below the ten seconds that platforms give. */
const STOP_TIMEOUT_MS = { requests: 1_500, worker: { batchMs: 3_500, sidecarMs: 2_500, giveBackMs: 1_000 } };

export interface Standalone {
  url: string;
  /** Which model does the jobs that name none, and why. */
  modelReason: string;
  /** Gives the jobs back and ends everything it started, within ten seconds. */
  stop(): Promise<void>;
}

/**
 * Every service in one process: the API, the queue, ingest and the worker with its sidecar. It is the only one that
 * works on its folder, so whatever a former run had in flight is taken up again at once. When it cannot start, what
 * it had started is ended again.
 * @param started the folder and the transcriber, which end with it
 */
export async function runStandalone({
  config,
  log,
  transcriber: { sidecars, capabilities, models, overlapsStages },
  started: before,
}: {
  config: StandaloneConfig;
  log: Logger;
  transcriber: Transcriber;
  started: AsyncDisposableStack;
}): Promise<Standalone> {
  await using started = before;
  const { context, queue, scratchDir } = await openStore(config, log, started).catch((error: unknown) => {
    throw explainFolder(
      error,
      config.dataDir,
      `move ${DATABASE} away to begin anew (recordings stay in blobs/)`,
    );
  });

  await writeCapabilities(context.records, BACKEND, capabilities);

  const { backends } = context;
  const ffmpegPath = config.installation.ffmpeg;
  const access = { openStorage: cloudStorageWhenNeeded(config.storageApiEndpoint), ...config.api };
  const tools = { sidecars, capabilities, overlapsStages, ffmpegPath, scratchDir, access };
  const cpu = new EmbeddedQueue(queue, CPU_QUEUE, {
    log,
    concurrency: 2,
    handle: (payload, { signal }) =>
      handleCpuTask(context, { ffmpegPath, scratchDir, access }, payload, signal),
  });
  const gpu = new EmbeddedQueue(queue, BACKEND, {
    log,
    concurrency: 1,
    // Before the claim, so that the recording that ends the transcriber costs no other job an attempt.
    handle: async (payload, { signal }) =>
      sidecars.state === 'unavailable'
        ? { kind: 'retry', error: unavailable() }
        : transcribeJob(context, tools, payload, signal),
  });
  const triggers = [cpu, gpu];
  if (config.mistral !== undefined) {
    const tools = voxtralTools(config.mistral, { blobs: context.blobs, scratchDir, ffmpegPath, access, log });
    triggers.push(
      new EmbeddedQueue(queue, VOXTRAL, {
        log,
        concurrency: VOXTRAL_CONCURRENCY,
        handle: (payload, { signal }) => transcribeWithVoxtral(context, tools, payload, signal),
      }),
    );
  }
  started.defer(() =>
    stopWorker(
      sidecars,
      (timeoutMs) => Promise.all(triggers.map((trigger) => trigger.stop(timeoutMs))),
      STOP_TIMEOUT_MS.worker,
    ),
  );

  const stopping = new AbortController();
  const app = createApp({
    stopping: stopping.signal,
    blobs: context.blobs,
    records: context.records,
    queue,
    log,
    ...config.api,
    ...config.costs,
    backends,
    readiness: () => sidecars.readiness(),
    now: Date.now,
  });
  const server = await listen(app, config.api);
  started.defer(() => {
    stopping.abort();
    return server.close(STOP_TIMEOUT_MS.requests);
  });
  for (const trigger of triggers) trigger.start();
  log.info({ url: server.url, model: models.default_model, because: models.because }, 'listening');

  const running = started.move();
  return {
    url: server.url,
    modelReason: models.because,
    stop: () => running.disposeAsync(),
  };
}

/** Opens the folder as its only owner, and clears away what a former owner has left half done. */
async function openStore(
  { dataDir, costs, gpu, mistral }: StandaloneConfig,
  log: Logger,
  started: AsyncDisposableStack,
) {
  const holder = `${BACKEND}-${randomUUID()}`;
  const database = openDatabase(join(dataDir, DATABASE));
  started.defer(() => database.close());
  const blobs = new DiskBlobs(join(dataDir, 'blobs'));
  const queue = new SqliteQueue(database);
  const context: WorkerContext = {
    blobs,
    records: new SqliteRecords(database),
    queue,
    log,
    backends: backendsWith(mistral),
    ...costs,
    hasGpu: gpu.device === 'cuda',
    holder,
    timing: LOCAL_TIMING,
    isHolderGone: (other) => other !== holder,
  };
  const scratchDir = join(dataDir, 'scratch');
  await rm(scratchDir, { recursive: true, force: true });
  await mkdir(scratchDir, { recursive: true });
  await blobs.sweepIncoming();
  await blobs.sweepPartials(PARTIAL_LIFETIME_MS);
  await sweepUnfinishedUploads(context);
  await forgetUploadLocks(context.records);
  queue.releaseAll();
  return { context, queue, scratchDir };
}

function backendsWith(mistral: StandaloneConfig['mistral']): Backend[] {
  const backends: Backend[] = [{ name: BACKEND, kind: 'standalone', tier: 'premium' }];
  if (mistral !== undefined) backends.push({ name: VOXTRAL, kind: 'voxtral', tier: 'standard' });
  return backends;
}

function unavailable(): ServiceError {
  return new ServiceError(
    'sidecar-unavailable',
    'The transcriber is not running at the moment. The job waits until it is.',
  );
}

function handleCpuTask(
  context: WorkerContext,
  tools: IngestTools,
  payload: TaskPayload,
  signal: AbortSignal,
): Promise<Outcome> {
  switch (payload.type) {
    case 'ingest':
      return ingest(context, tools, payload, signal);
    case 'reconcile':
      return reconcile(context, payload, signal);
    case 'expire-upload':
      return expireUpload(context, payload);
    case 'attribute-costs':
      throw new TypeError('nobody is billed for the instance of one machine');
    case 'transcribe':
      throw new TypeError('a transcribe task belongs on the queue of a backend');
    case 'start-run':
    case 'stop-run':
      throw new TypeError('the backend of one machine is not started for each job');
  }
}
