import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeCapabilities } from '../core/capabilities.ts';
import { attributeEveryMs } from '../core/costs/attribution.ts';
import { InstanceHeartbeat } from '../core/costs/instance-heartbeat.ts';
import type { Logger } from '../core/log.ts';
import { openPlatform } from '../core/platform.ts';
import type { RunningService } from '../core/run-service.ts';
import { workerContext } from '../core/tasks/worker-context.ts';
import { EarlyServer } from '../core/triggers/early-server.ts';
import { HttpPush, type TaskHandler } from '../core/triggers/http-push.ts';
import { RunOnce } from '../core/triggers/run-once.ts';
import type { GpuServiceConfig } from './service-config.ts';
import { stopWorker } from './stop-worker.ts';
import { transcribeJob } from './transcribe-job.ts';
import type { Transcriber } from './transcriber.ts';

/** Together eight of the ten seconds that Cloud Run gives. */
const STOP_TIMEOUT_MS = { batchMs: 4_500, sidecarMs: 2_000, giveBackMs: 1_500 };

/** And less than one of them for the last sign of life, which may be missing. */
const LAST_BEAT_MS = 800;

/** Everything of gpu-service but the sidecar, which loads its models meanwhile. `failure` aborts when that cannot go on. */
export async function serveTasks(
  config: GpuServiceConfig,
  { sidecars, capabilities, models, overlapsStages }: Transcriber,
  { early, failure, log }: { early: EarlyServer | undefined; failure: AbortSignal; log: Logger },
): Promise<RunningService> {
  const { trigger, backend } = config;
  const platform = await openPlatform(config.platform);
  const kind = platform.backends.find(({ name }) => name === backend)?.kind;
  const scratchDir = await mkdtemp(join(tmpdir(), 'zeroscribe-gpu-'));
  const timing = 'once' in trigger ? trigger.once : trigger.push;
  const base = workerContext('gpu-service', { ...platform, ...timing, log });
  const heartbeat = new InstanceHeartbeat({
    ...platform,
    log,
    backend,
    id: base.holder,
    trigger: 'once' in trigger ? 'once' : 'push',
    attributeEveryMs: attributeEveryMs(kind),
  });
  heartbeat.start();
  const context = {
    ...base,
    ...config.costs,
    instance: heartbeat,
    hasGpu: config.gpu.device === 'cuda' || kind !== 'server',
  };
  const access = { openStorage: async () => platform.storage, gcsSources: config.sources.gcsSources };
  const tools = {
    sidecars,
    capabilities,
    overlapsStages,
    ffmpegPath: config.installation.ffmpeg,
    scratchDir,
    access,
  };
  const handle: TaskHandler = (payload, { signal }) => transcribeJob(context, tools, payload, signal);
  const about = { backend, model: models.default_model, because: models.because };
  sidecars
    .whenReady(failure)
    .then(() => {
      heartbeat.ready();
      return writeCapabilities(context.records, backend, capabilities);
    })
    .catch((error: unknown) => log.error({ err: error }, 'the capabilities could not be written'));
  const stopAfter = async (stopTrigger: (timeoutMs: number) => Promise<unknown>) => {
    await stopWorker(sidecars, stopTrigger, STOP_TIMEOUT_MS);
    await heartbeat.stop(LAST_BEAT_MS);
    platform.close();
    await rm(scratchDir, { recursive: true, force: true });
  };

  if ('once' in trigger) {
    log.info(about, 'started for one task');
    const run = new RunOnce({ context, task: trigger.once.task, handle });
    return { finished: run.finished, stop: () => stopAfter((timeoutMs) => run.stop(timeoutMs)) };
  }
  const service = new HttpPush({
    log,
    auth: trigger.push.auth,
    handlers: { transcribe: handle },
    // One GPU, one job.
    maxConcurrent: 1,
    readiness: () => sidecars.readiness(),
  });
  const { url } = service.answer(early ?? (await EarlyServer.listen(trigger.push)));
  log.info({ url, ...about }, 'listening');
  return { failure, stop: () => stopAfter((timeoutMs) => service.stop(timeoutMs)) };
}
