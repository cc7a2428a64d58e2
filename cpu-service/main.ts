import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Backend, isVoxtral } from '../core/backends.ts';
import { readCostSettings, readSpendLimit } from '../core/costs/cost-settings.ts';
import { readTogether } from '../core/environment.ts';
import { readTools } from '../core/installation.ts';
import { openPlatform, readPlatformConfig } from '../core/platform.ts';
import { readPrivateServiceConfig } from '../core/private-service.ts';
import { runService } from '../core/run-service.ts';
import { openRuns, readRunsConfig } from '../core/runs/open-runs.ts';
import { readSourceLimits } from '../core/source-limits.ts';
import { type WorkerContext, workerContext } from '../core/tasks/worker-context.ts';
import { HttpPush } from '../core/triggers/http-push.ts';
import { attributeCosts } from './attribute-costs.ts';
import { expireUpload } from './expire-upload.ts';
import { ingest } from './ingest.ts';
import { reconcile } from './reconcile.ts';
import { startRun } from './start-run.ts';
import { stopRun } from './stop-run.ts';
import { checkMistralConfig, readMistralConfig } from './voxtral/config.ts';
import { transcribeWithVoxtral } from './voxtral/transcribe-with-voxtral.ts';
import { voxtralTools } from './voxtral/voxtral-tools.ts';

/** ffmpeg uses one core, and reconcile hardly any. Jobs that are at Mistral come on top: they mostly wait. */
const MAX_CONCURRENT = 4;
const STOP_TIMEOUT_MS = 8_000;

const readConfig = (env: NodeJS.ProcessEnv) => {
  const config = readTogether({
    service: () => readPrivateServiceConfig(env),
    platform: () => readPlatformConfig(env),
    runs: () => readRunsConfig(env),
    sources: () => readSourceLimits(env),
    mistral: () => readMistralConfig(env),
    costs: () => readCostSettings(env),
    spend: () => readSpendLimit(env),
  });
  checkMistralConfig(config.mistral, config.platform.backends);
  return config;
};

await runService('cpu-service', readConfig, async (config, log) => {
  const platform = await openPlatform(config.platform);
  const scratchDir = await mkdtemp(join(tmpdir(), 'zeroscribe-cpu-'));
  const context: WorkerContext = {
    ...workerContext('cpu-service', { ...platform, ...config.service, log }),
    runs: openRuns(platform.backends, config.runs),
    ...config.costs,
    ...config.spend,
  };
  const access = { openStorage: async () => platform.storage, ...config.sources };
  const tools = { ffmpegPath: readTools().ffmpeg, scratchDir, access };
  const { store, storageApiEndpoint } = config.platform;
  const isLinkable = store.kind === 'gcs' && storageApiEndpoint === undefined;
  const bucket = isLinkable ? platform.storage.bucket(store.bucket) : undefined;
  const voxtral = config.mistral && voxtralTools(config.mistral, { ...platform, ...tools, bucket, log });
  const push = new HttpPush({
    log,
    auth: config.service.auth,
    handlers: {
      ingest: (payload, { signal }) => ingest(context, tools, payload, signal),
      ...(voxtral !== undefined && {
        transcribe: (payload, { signal }) => transcribeWithVoxtral(context, voxtral, payload, signal),
      }),
      'expire-upload': (payload) => expireUpload(context, payload),
      'start-run': (payload) => startRun(context, payload),
      'stop-run': (payload) => stopRun(context, payload),
      'attribute-costs': (payload) => attributeCosts(context, payload),
      reconcile: (payload, { signal }) => reconcile(context, payload, signal),
    },
    maxConcurrent: MAX_CONCURRENT,
    maxConcurrentOf: { transcribe: jobsAtMistral(platform.backends) },
    readiness: () => ({ isReady: true, detail: 'Ready for tasks.' }),
  });
  const { url } = await push.listen(config.service);
  log.info({ url }, 'listening');
  return {
    async stop() {
      await push.stop(STOP_TIMEOUT_MS);
      platform.close();
      await rm(scratchDir, { recursive: true, force: true });
    },
  };
});

function jobsAtMistral(backends: readonly Backend[]): number {
  return backends.filter(isVoxtral).reduce((sum, { max_running = 1 }) => sum + max_running, 0);
}
