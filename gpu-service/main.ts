import { runService } from '../core/run-service.ts';
import { EarlyServer } from '../core/triggers/early-server.ts';
import { readGpuServiceConfig } from './service-config.ts';
import { openTranscriber } from './transcriber.ts';

await runService('gpu-service', readGpuServiceConfig, async (config, log) => {
  const failure = new AbortController();
  const transcriber = openTranscriber(config.gpu, config.installation, {
    log,
    // A run has no more than its one task, which then fails as it should and is counted.
    onUnavailable: ({ error }) => 'push' in config.trigger && failure.abort(error),
  });
  // At once: the startup probe asks whether it lives, and a task may come while the rest is loaded, and the models.
  const early = 'push' in config.trigger ? await EarlyServer.listen(config.trigger.push) : undefined;
  // Loaded only now: the sidecar takes longest, so nothing that it does not need comes before it.
  const { serveTasks } = await import('./serve-tasks.ts');
  return serveTasks(config, transcriber, { early, failure: failure.signal, log });
});
