import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createApp } from '../api/app.ts';
import { listen } from '../api/listen.ts';
import { DiskBlobs } from '../core/blobs/disk-blobs.ts';
import { writeCapabilities } from '../core/capabilities.ts';
import type { Logger } from '../core/log.ts';
import type { ServiceError } from '../core/problem.ts';
import { SqliteQueue } from '../core/queue/sqlite-queue.ts';
import { SqliteRecords } from '../core/records/sqlite-records.ts';
import { openDatabase } from '../core/sqlite.ts';
import type { Outcome } from '../core/tasks/outcome.ts';
import { CPU_QUEUE, type TaskPayload } from '../core/tasks/task.ts';
import { LOCAL_TIMING, type WorkerContext } from '../core/tasks/worker-context.ts';
import { EmbeddedQueue } from '../core/triggers/embedded-queue.ts';
import { ingest } from '../cpu-service/ingest.ts';
import { reconcile, sweepUnfinishedUploads } from '../cpu-service/reconcile.ts';
import { describeCapabilities } from '../gpu-service/capabilities.ts';
import { alignmentModels, findModels } from '../gpu-service/models.ts';
import { sidecarCommand, sidecarEnvironment } from '../gpu-service/supervisor/command.ts';
import type { SidecarConfig } from '../gpu-service/supervisor/protocol.ts';
import { SupervisedSidecar } from '../gpu-service/supervisor/supervised-sidecar.ts';
import { transcribeJob } from '../gpu-service/transcribe-job.ts';
import type { StandaloneConfig } from './config.ts';
import { ownFolder } from './own-folder.ts';

const BACKEND = 'standalone';
const STOP_TIMEOUT_MS = 8_000;

export interface Standalone {
  url: string;
  /** Which model does the jobs that name none, and why. */
  modelReason: string;
  /** Settles when the transcriber cannot run here: jobs would only wait. */
  fatal: Promise<ServiceError>;
  /** Gives the jobs back and ends everything it started, within ten seconds. */
  stop(): Promise<void>;
}

/**
 * Every service in one process: the API, the queue, ingest and the worker with its sidecar. It is the only one that
 * works on its folder, so whatever a former run had in flight is taken up again at once.
 */
export async function startStandalone({
  config,
  log,
}: {
  config: StandaloneConfig;
  log: Logger;
}): Promise<Standalone> {
  const letGo = ownFolder(config.dataDir);
  const holder = `${BACKEND}-${randomUUID()}`;
  const database = openDatabase(join(config.dataDir, 'zeroscribe.sqlite'));
  const blobs = new DiskBlobs(join(config.dataDir, 'blobs'));
  const queue = new SqliteQueue(database);
  const context: WorkerContext = {
    blobs,
    records: new SqliteRecords(database),
    queue,
    log,
    holder,
    timing: LOCAL_TIMING,
    isHolderGone: (other) => other !== holder,
  };
  const scratchDir = join(config.dataDir, 'scratch');
  await rm(scratchDir, { recursive: true, force: true });
  await mkdir(scratchDir, { recursive: true });
  await blobs.sweepIncoming();
  await sweepUnfinishedUploads(context);
  queue.releaseAll();

  const models = findModels({
    modelsDir: config.gpu.modelsDir,
    packaged: config.installation.packaged_model,
    whisperModel: config.gpu.whisperModel,
    device: config.gpu.device,
  });
  const sidecarConfig: SidecarConfig = {
    models: Object.fromEntries(models.models.map(({ name, path }) => [name, path])),
    default_model: models.default_model,
    device: config.gpu.device,
    compute_type: config.gpu.computeType,
    cpu_threads: config.gpu.cpuThreads,
    batch_size: config.gpu.batchSize,
    alignment_models: alignmentModels(config.gpu.alignmentModelDir ?? null),
    diarization_model: config.gpu.diarizationModel ?? null,
  };
  const capabilities = describeCapabilities(models, sidecarConfig);
  await writeCapabilities(context.records, BACKEND, capabilities);

  const fatal = Promise.withResolvers<ServiceError>();
  const sidecar = new SupervisedSidecar({
    command: sidecarCommand(sidecarConfig, config.installation.python),
    env: sidecarEnvironment(process.env),
    log,
    onUnavailable: fatal.resolve,
  });
  sidecar.start();

  const ffmpegPath = config.installation.ffmpeg;
  const cpu = new EmbeddedQueue(queue, CPU_QUEUE, {
    log,
    concurrency: 2,
    handle: (payload, { signal }) => handleCpuTask(context, ffmpegPath, payload, signal),
  });
  const gpu = new EmbeddedQueue(queue, BACKEND, {
    log,
    concurrency: 1,
    handle: (payload, { signal }) =>
      transcribeJob(context, { sidecar, capabilities, ffmpegPath, scratchDir }, payload, signal),
  });

  const app = createApp({
    blobs,
    records: context.records,
    queue,
    log,
    keys: config.api.keys,
    maxUploadBytes: config.api.maxUploadBytes,
    urlSigningKey: config.api.urlSigningKey ?? randomBytes(32).toString('hex'),
    publicUrl: config.api.publicUrl,
    chooseBackend: () => ({
      chosen: BACKEND,
      because: 'it is the only backend of this service',
      alternatives: [],
    }),
    readiness: () => ({
      isReady: sidecar.state === 'ready' || sidecar.state === 'busy',
      detail: `The transcriber is ${sidecar.state}.`,
    }),
    now: Date.now,
  });
  const server = await listen(app, config.api);
  cpu.start();
  gpu.start();
  log.info({ url: server.url, model: models.default_model, because: models.because }, 'listening');

  return {
    url: server.url,
    modelReason: models.because,
    fatal: fatal.promise,
    async stop() {
      await Promise.all([
        server.close(STOP_TIMEOUT_MS / 2),
        cpu.stop(STOP_TIMEOUT_MS / 2),
        gpu.stop(STOP_TIMEOUT_MS / 2),
        sidecar.stop(STOP_TIMEOUT_MS),
      ]);
      database.close();
      letGo();
    },
  };
}

function handleCpuTask(
  context: WorkerContext,
  ffmpegPath: string,
  payload: TaskPayload,
  signal: AbortSignal,
): Promise<Outcome> {
  switch (payload.type) {
    case 'ingest':
      return ingest(context, { ffmpegPath }, payload, signal);
    case 'reconcile':
      return reconcile(context, signal);
    case 'transcribe':
      throw new TypeError('a transcribe task belongs on the queue of a backend');
  }
}
