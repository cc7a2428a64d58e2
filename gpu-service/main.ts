import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeCapabilities } from '../core/capabilities.ts';
import { readTogether } from '../core/environment.ts';
import { readInstallation } from '../core/installation.ts';
import { openPlatform, readPlatformConfig } from '../core/platform.ts';
import { readPrivateServiceConfig } from '../core/private-service.ts';
import { runService } from '../core/run-service.ts';
import { readSourceLimits } from '../core/source-limits.ts';
import { workerContext } from '../core/tasks/worker-context.ts';
import { HttpPush } from '../core/triggers/http-push.ts';
import { readBackendName, readGpuConfig } from './config.ts';
import { stopWorker } from './stop-worker.ts';
import { transcribeJob } from './transcribe-job.ts';
import { openTranscriber } from './transcriber.ts';

/** Together eight of the ten seconds that Cloud Run gives. */
const STOP_TIMEOUT_MS = { batchMs: 4_500, sidecarMs: 2_000, giveBackMs: 1_500 };

function readConfig(env: NodeJS.ProcessEnv) {
  const installation = readInstallation();
  const config = readTogether({
    service: () => readPrivateServiceConfig(env),
    platform: () => readPlatformConfig(env),
    gpu: () => readGpuConfig(env, installation),
    sources: () => readSourceLimits(env),
  });
  return { ...config, installation, backend: readBackendName(env, config.platform.backends) };
}

await runService('gpu-service', readConfig, async ({ backend, installation, ...config }, log) => {
  const failure = new AbortController();
  const { sidecar, capabilities, models } = openTranscriber(config.gpu, installation, {
    log,
    onUnavailable: ({ error }) => failure.abort(error),
  });
  const platform = await openPlatform(config.platform);
  const scratchDir = await mkdtemp(join(tmpdir(), 'zeroscribe-gpu-'));
  const context = workerContext('gpu-service', { ...platform, ...config.service, log });
  const access = { openStorage: async () => platform.storage, gcsSources: config.sources.gcsSources };
  const tools = { sidecar, capabilities, ffmpegPath: installation.ffmpeg, scratchDir, access };
  const push = new HttpPush({
    log,
    auth: config.service.auth,
    handlers: { transcribe: (payload, { signal }) => transcribeJob(context, tools, payload, signal) },
    // One GPU, one job.
    maxConcurrent: 1,
    readiness: () => ({
      isReady: sidecar.state === 'ready' || sidecar.state === 'busy',
      detail: `The transcriber is ${sidecar.state}.`,
    }),
  });
  // At once: the startup probe asks whether it lives, and a task may come while the models load.
  const { url } = await push.listen(config.service);
  log.info({ url, backend, model: models.default_model, because: models.because }, 'listening');
  sidecar
    .whenReady(failure.signal)
    .then(() => writeCapabilities(context.records, backend, capabilities))
    .catch((error: unknown) => log.error({ err: error }, 'the capabilities could not be written'));
  return {
    failure: failure.signal,
    async stop() {
      await stopWorker(sidecar, (timeoutMs) => push.stop(timeoutMs), STOP_TIMEOUT_MS);
      platform.close();
      await rm(scratchDir, { recursive: true, force: true });
    },
  };
});
