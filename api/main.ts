import { readCostSettings, readSpendLimit } from '../core/costs/cost-settings.ts';
import { readTogether } from '../core/environment.ts';
import { openPlatform, readPlatformConfig } from '../core/platform.ts';
import { runService } from '../core/run-service.ts';
import { createApp } from './app.ts';
import { readApiConfig } from './config.ts';
import { listen } from './listen.ts';

const REQUESTS_TIMEOUT_MS = 8_000;

const readConfig = (env: NodeJS.ProcessEnv) =>
  readTogether({
    api: () => readApiConfig(env),
    platform: () => readPlatformConfig(env),
    costs: () => readCostSettings(env),
    spend: () => readSpendLimit(env),
  });

await runService('api', readConfig, async (config, log) => {
  const platform = await openPlatform(config.platform);
  if (!platform.backends.some(({ tier }) => tier === 'premium')) {
    throw new Error('BACKENDS has no backend of the tier premium');
  }
  const stopping = new AbortController();
  const app = createApp({
    stopping: stopping.signal,
    ...platform,
    log,
    ...config.api,
    ...config.costs,
    ...config.spend,
    readiness: () => ({ isReady: true, detail: 'The API takes requests.' }),
    now: Date.now,
  });
  const server = await listen(app, config.api);
  log.info({ url: server.url }, 'listening');
  return {
    async stop() {
      stopping.abort();
      await server.close(REQUESTS_TIMEOUT_MS);
      platform.close();
    },
  };
});
