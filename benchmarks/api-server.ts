import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import express from 'express';
import multer from 'multer';
import { parseApiKeys } from '../api/http/api-keys.ts';
import { createLog } from '../core/log.ts';
import { startApi } from '../tests/support/start-api.ts';

/** What plain Express answers: what ours answered to the same requests. */
export interface Answers {
  submitted: { location: string; body: object };
  transcriptions: [id: string, body: object][];
}

/**
 * One of the two servers that the API benchmark compares, alone in its process. `zeroscribe API_KEYS` is the API as it
 * runs on one machine, log included; `express` answers the same bytes, which it gets in a message, from its memory.
 */
const [which, keys = ''] = process.argv.slice(2);
const server =
  which === 'express'
    ? await startPlainExpress(((await once(process, 'message')) as [Answers])[0])
    : await startApi({ keys: parseApiKeys(keys), log: createLog('api') });
process.on('disconnect', async () => {
  await server.stop();
  process.exit();
});
// Whatever it is asked: what is really in use, once the garbage is gone.
process.on('message', () => {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  process.send?.({ inUseBytes: heapUsed + external });
});
process.send?.({ url: server.url });

/** What most people would write: multer's own disk storage, a Map and no log. */
async function startPlainExpress({ submitted, transcriptions }: Answers): Promise<{
  url: string;
  stop(): Promise<void>;
}> {
  const folder = await mkdtemp(join(tmpdir(), 'multer-'));
  const byId = new Map(transcriptions);
  const app = express();
  app.post('/v1/transcriptions', multer({ dest: folder }).single('file'), (_request, response) => {
    response.status(202).location(submitted.location).json(submitted.body);
  });
  app.get('/v1/transcriptions/:id', (request, response) => {
    const found = byId.get(request.params.id);
    if (found === undefined) response.sendStatus(404);
    else response.json(found);
  });
  const listening = app.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  return {
    url: `http://127.0.0.1:${(listening.address() as AddressInfo).port}`,
    stop: async () => {
      listening.closeAllConnections();
      await rm(folder, { recursive: true });
    },
  };
}
