import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeCapabilities } from '../core/capabilities.ts';
import { readInstallation } from '../core/installation.ts';
import { openPlatform, readPlatformConfig } from '../core/platform.ts';
import { readPrivateServiceConfig } from '../core/private-service.ts';
import { runService } from '../core/run-service.ts';
import { workerContext } from '../core/tasks/worker-context.ts';
import { HttpPush } from '../core/triggers/http-push.ts';
import { readBackendName, readGpuConfig } from './config.ts';
import { transcribeJob } from './transcribe-job.ts';
import { openTranscriber } from './transcriber.ts';

/** Together below the ten seconds that Cloud Run gives. */
const STOP_TIMEOUT_MS = { handlers: 6_000, sidecar: 2_500 };

await runService('gpu-service', async (log) => {
  const installation = readInstallation();
  const config = readPrivateServiceConfig(process.env);
  const platformConfig = readPlatformConfig(process.env);
  const backend = readBackendName(process.env, platformConfig.backends);
  const failure = new AbortController();
  const { sidecar, capabilities, models } = openTranscriber(
    readGpuConfig(process.env, installation),
    installation,
    {
      log,
      onUnavailable: (error) => failure.abort(error),
    },
  );
  const platform = await openPlatform(platformConfig);
  const scratchDir = await mkdtemp(join(tmpdir(), 'zeroscribe-gpu-'));
  const context = workerContext('gpu-service', { ...platform, ...config, log });
  const tools = { sidecar, capabilities, ffmpegPath: installation.ffmpeg, scratchDir };
  const push = new HttpPush({
    log,
    auth: config.auth,
    handlers: { transcribe: (payload, { signal }) => transcribeJob(context, tools, payload, signal) },
    // One GPU, one job.
    maxConcurrent: 1,
    readiness: () => ({
      isReady: sidecar.state === 'ready' || sidecar.state === 'busy',
      detail: `The transcriber is ${sidecar.state}.`,
    }),
  });
  // At once: the startup probe asks whether it lives, and a task may come while the models load.
  const { url } = await push.listen(config);
  log.info({ url, backend, model: models.default_model, because: models.because }, 'listening');
  sidecar
    .whenReady(failure.signal)
    .then(() => writeCapabilities(context.records, backend, capabilities))
    .catch((error: unknown) => log.error({ err: error }, 'the capabilities could not be written'));
  return {
    failure: failure.signal,
    async stop() {
      await push.stop(STOP_TIMEOUT_MS.handlers);
      await sidecar.stop(STOP_TIMEOUT_MS.sidecar);
      platform.close();
      await rm(scratchDir, { recursive: true, force: true });
    },
  };
});
