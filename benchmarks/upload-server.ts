import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import express from 'express';
import multer from 'multer';
import { startApi } from '../tests/support/start-api.ts';

/** Those that the upload benchmark compares. */
export type UploadServer = 'multer' | 'zeroscribe' | 'zeroscribe-http2';

// Alone in its process.
const which = process.argv[2] as UploadServer;
const server =
  which === 'multer'
    ? await startPlainMulter()
    : await startApi({ maxUploadBytes: 2 ** 40 }, { http2: which === 'zeroscribe-http2' });
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
