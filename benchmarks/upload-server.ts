import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import express from 'express';
import multer from 'multer';
import { startApi } from '../tests/support/start-api.ts';

/** One of the two servers that the upload benchmark compares, alone in its process: `zeroscribe` or `multer`. */
const which = process.argv[2];
const server = which === 'multer' ? await startPlainMulter() : await startApi({ maxUploadBytes: 2 ** 40 });
process.on('disconnect', async () => {
  await server.stop();
  process.exit();
});
process.send?.({ url: server.url });

/** What most people would write: Express, and multer's own disk storage. */
async function startPlainMulter(): Promise<{ url: string; stop(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'multer-'));
  const app = express();
  app.post('/v1/transcriptions', multer({ dest: folder }).single('file'), (_request, response) => {
    response.status(202).json({});
  });
  const { promise, resolve } = Promise.withResolvers<string>();
  const listening = app.listen(0, '127.0.0.1', () => {
    const address = listening.address();
    resolve(typeof address === 'object' && address !== null ? `http://127.0.0.1:${address.port}` : '');
  });
  return {
    url: await promise,
    stop: async () => {
      listening.closeAllConnections();
      await rm(folder, { recursive: true });
    },
  };
}
