import { openPlatform, readPlatformConfig } from '../core/platform.ts';
import { runService } from '../core/run-service.ts';
import { createApp } from './app.ts';
import { readApiConfig } from './config.ts';
import { listen } from './listen.ts';

const REQUESTS_TIMEOUT_MS = 8_000;

await runService('api', async (log) => {
  const config = readApiConfig(process.env);
  const platformConfig = readPlatformConfig(process.env);
  const platform = await openPlatform(platformConfig);
  const [preferred, ...others] = platformConfig.backends.filter(({ tier }) => tier === 'premium');
  if (preferred === undefined) throw new Error('BACKENDS has no backend of the tier premium');
  const app = createApp({
    ...platform,
    log,
    ...config,
    chooseBackend: () => ({
      chosen: preferred.name,
      because: 'it comes first in BACKENDS',
      alternatives: others.map(({ name }) => name),
    }),
    readiness: () => ({ isReady: true, detail: 'The API takes requests.' }),
    now: Date.now,
  });
  const server = await listen(app, config);
  log.info({ url: server.url }, 'listening');
  return {
    async stop() {
      await server.close(REQUESTS_TIMEOUT_MS);
      platform.close();
    },
  };
});
