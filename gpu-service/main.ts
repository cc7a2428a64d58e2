import { readTogether } from '../core/environment.ts';
import { readInstallation } from '../core/installation.ts';
import { readPlatformConfig } from '../core/platform.ts';
import { readPrivateServiceConfig, readRunOnceConfig } from '../core/private-service.ts';
import { runService } from '../core/run-service.ts';
import { readSourceLimits } from '../core/source-limits.ts';
import { readBackendName, readGpuConfig } from './config.ts';
import { openTranscriber } from './transcriber.ts';

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

await runService('gpu-service', readConfig, async ({ installation, ...config }, log) => {
  const failure = new AbortController();
  const transcriber = openTranscriber(config.gpu, installation, {
    log,
    // A run has no more than its one task, which then fails as it should and is counted.
    onUnavailable: ({ error }) => 'push' in config.trigger && failure.abort(error),
  });
  // Loaded only now: the sidecar takes longest, so nothing that it does not need comes before it.
  const { serveTasks } = await import('./serve-tasks.ts');
  return serveTasks({ ...config, tools: installation }, transcriber, { failure: failure.signal, log });
});
