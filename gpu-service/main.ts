import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeCapabilities } from '../core/capabilities.ts';
import { readTogether } from '../core/environment.ts';
import { readInstallation } from '../core/installation.ts';
import { openPlatform, readPlatformConfig } from '../core/platform.ts';
import { readPrivateServiceConfig, readRunOnceConfig } from '../core/private-service.ts';
import { runService } from '../core/run-service.ts';
import { readSourceLimits } from '../core/source-limits.ts';
import { workerContext } from '../core/tasks/worker-context.ts';
import { HttpPush, type TaskHandler } from '../core/triggers/http-push.ts';
import { RunOnce } from '../core/triggers/run-once.ts';
import { readBackendName, readGpuConfig } from './config.ts';
import { stopWorker } from './stop-worker.ts';
import { transcribeJob } from './transcribe-job.ts';
import { openTranscriber } from './transcriber.ts';

/** Together eight of the ten seconds that Cloud Run gives. */
const STOP_TIMEOUT_MS = { batchMs: 4_500, sidecarMs: 2_000, giveBackMs: 1_500 };

/** A process that was started for one task listens to nobody, and so needs to know of no caller. */
function readTrigger(env: NodeJS.ProcessEnv) {
  const once = readRunOnceConfig(env);
  return once === undefined ? { push: readPrivateServiceConfig(env) } : { once };
}

function readConfig(env: NodeJS.ProcessEnv) {
  const installation = readInstallation();
  const config = readTogether({
    trigger: () => readTrigger(env),
    platform: () => readPlatformConfig(env),
    gpu: () => readGpuConfig(env, installation),
    sources: () => readSourceLimits(env),
  });
  return { ...config, installation, backend: readBackendName(env, config.platform.backends) };
}

await runService('gpu-service', readConfig, async ({ backend, installation, ...config }, log) => {
  const { once, push } = config.trigger;
  const failure = new AbortController();
  const { sidecar, capabilities, models } = openTranscriber(config.gpu, installation, {
    log,
    // A run has no more than its one task, which then fails as it should and is counted.
    onUnavailable: ({ error }) => once === undefined && failure.abort(error),
  });
  const platform = await openPlatform(config.platform);
  const scratchDir = await mkdtemp(join(tmpdir(), 'zeroscribe-gpu-'));
  const context = workerContext('gpu-service', { ...platform, ...(once ?? push), log });
  const access = { openStorage: async () => platform.storage, gcsSources: config.sources.gcsSources };
  const tools = { sidecar, capabilities, ffmpegPath: installation.ffmpeg, scratchDir, access };
  const handle: TaskHandler = (payload, { signal }) => transcribeJob(context, tools, payload, signal);
  const about = { backend, model: models.default_model, because: models.because };
  sidecar
    .whenReady(failure.signal)
    .then(() => writeCapabilities(context.records, backend, capabilities))
    .catch((error: unknown) => log.error({ err: error }, 'the capabilities could not be written'));
  const stopAfter = async (stopTrigger: (timeoutMs: number) => Promise<unknown>) => {
    await stopWorker(sidecar, stopTrigger, STOP_TIMEOUT_MS);
    platform.close();
    await rm(scratchDir, { recursive: true, force: true });
  };

  if (once !== undefined) {
    log.info(about, 'started for one task');
    const run = new RunOnce({ context, task: once.task, handle });
    return { finished: run.finished, stop: () => stopAfter((timeoutMs) => run.stop(timeoutMs)) };
  }
  const service = new HttpPush({
    log,
    auth: push.auth,
    handlers: { transcribe: handle },
    // One GPU, one job.
    maxConcurrent: 1,
    readiness: () => ({
      isReady: sidecar.state === 'ready' || sidecar.state === 'busy',
      detail: `The transcriber is ${sidecar.state}.`,
    }),
  });
  // At once: the startup probe asks whether it lives, and a task may come while the models load.
  const { url } = await service.listen(push);
  log.info({ url, ...about }, 'listening');
  return {
    failure: failure.signal,
    stop: () => stopAfter((timeoutMs) => service.stop(timeoutMs)),
  };
});
