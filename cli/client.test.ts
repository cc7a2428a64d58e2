import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { startApi } from '../tests/support/start-api.ts';
import { Client } from './client.ts';
import { ApiProblem, ServiceUnreachable } from './service-errors.ts';

let folder: string;
let path: string;
let server: Server | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'client-'));
  path = join(folder, 'talk.wav');
});
afterEach(async () => {
  server?.closeAllConnections();
  server?.close();
  await rm(folder, { recursive: true, force: true });
});

/** A service that misbehaves as no real one should. */
async function serve(answer: (req: IncomingMessage, res: ServerResponse) => void): Promise<Client> {
  server = createServer(answer);
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  return new Client(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

const upload = (sizeBytes: number) => ({ path, filename: 'talk.wav', sizeBytes, options: {} });

test('a request whose answer was lost is sent again with the same idempotency key', async () => {
  await writeFile(path, 'sound');
  const keys: unknown[] = [];
  const client = await serve((req, res) => {
    keys.push(req.headers['idempotency-key']);
    req.resume().once('end', () => {
      if (keys.length === 1) req.socket.destroy();
      else res.end(JSON.stringify({ id: 'tr_1' }));
    });
  });
  expect(await client.create(upload(5))).toEqual({ id: 'tr_1' });
  expect(keys).toEqual([keys[0], keys[0]]);
  await client.create(upload(5));
  expect(keys[2]).not.toBe(keys[0]);
});

test('a refusal that comes before the end of the file is told, and the rest is not sent', async () => {
  const sizeBytes = 2 ** 30;
  await writeFile(path, '');
  await truncate(path, sizeBytes);
  let sentBytes = 0;
  const api = await startApi({ maxUploadBytes: 1_000 });
  const client = new Client(api.url);
  const refused = client.create(upload(sizeBytes), {
    onUpload: (bytes) => {
      sentBytes = bytes;
    },
  });
  await expect(refused).rejects.toThrow(ApiProblem);
  await expect(refused).rejects.toThrow('The media file is too large');
  await api.stop();
  expect(sentBytes).toBeLessThan(sizeBytes / 2);
});

test('a file that shrinks while it is read ends the upload', async () => {
  await writeFile(path, 'short');
  const client = await serve((req) => req.resume());
  await expect(client.create(upload(1_000))).rejects.toThrow('became shorter while it was being uploaded');
});

test('a recording that cannot be read is not taken for a network that fails', async () => {
  const client = await serve((req) => req.resume());
  await expect(client.create(upload(1_000))).rejects.toThrow(/talk\.wav could not be read \(ENOENT\)/);
});

test('a proxy that is briefly without its service is asked again', async () => {
  let calls = 0;
  const client = await serve((_, res) => {
    calls += 1;
    if (calls === 1) res.writeHead(502).end('<h1>Bad gateway</h1>');
    else res.end(JSON.stringify({ id: 'tr_1' }));
  });
  expect(await client.get('tr_1')).toEqual({ id: 'tr_1' });
});

test('an answer that is not ours is told as such', async () => {
  const client = await serve((req, res) => {
    res.writeHead(req.method === 'GET' ? 200 : 404, { 'content-type': 'text/html' }).end('<h1>It works</h1>');
  });
  await expect(client.get('tr_1')).rejects.toThrow(ServiceUnreachable);
  await expect(client.cancel('tr_1')).rejects.toThrow('The answer is not from Zeroscribe');
});

test('an upload that is given up ends with the reason', async () => {
  await writeFile(path, 'sound');
  const giveUp = new AbortController();
  const client = await serve(() => giveUp.abort(new Error('enough')));
  await expect(client.create(upload(5), { signal: giveUp.signal })).rejects.toThrow('enough');
});
