import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { afterEach, expect, test } from '@jest/globals';
import { waitFor } from '../../tests/support/wait-for.ts';
import { sendBytes } from './send-bytes.ts';

const MIB = 2 ** 20;
let server: Server;

async function serve(listener: RequestListener): Promise<URL> {
  server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/upload?id=1`);
}

function send(url: URL, body: Uint8Array, signal = new AbortController().signal): Promise<Response> {
  return sendBytes(url, { method: 'PUT', headers: { 'content-range': 'bytes */*' }, body, signal });
}

function openConnections(): Promise<number> {
  return promisify(server.getConnections).bind(server)();
}

afterEach(async () => {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
});

test('sends a body with its length and headers, and has the answer as fetch has it', async () => {
  const body = randomBytes(5 * MIB);
  const got: unknown[] = [];
  const url = await serve(async (req, res) => {
    const { 'content-length': length, 'content-range': range, 'transfer-encoding': coding } = req.headers;
    got.push([req.method, req.url, length, range, coding, (await buffer(req)).equals(body)]);
    res.writeHead(308, { range: 'bytes=0-41', 'x-two': ['a', 'b'] }).end('{"a":1}');
  });
  const answer = await send(url, body);
  expect(got).toEqual([['PUT', '/upload?id=1', String(body.length), 'bytes */*', undefined, true]]);
  expect([answer.status, answer.headers.get('range'), answer.headers.get('x-two')]).toEqual([
    308,
    'bytes=0-41',
    'a, b',
  ]);
  expect(await answer.json()).toEqual({ a: 1 });
});

test('uses a connection again, also after answers and bodies of nothing', async () => {
  const url = await serve((req, res) => void req.resume().on('end', () => res.writeHead(204).end()));
  for (let n = 0; n < 5; n++) expect((await send(url, new Uint8Array(n % 2))).status).toBe(204);
  expect(await openConnections()).toBe(1);
});

test('reads a body no more once it is answered, so that its memory can be used again', async () => {
  const url = await serve(() => {});
  server.removeAllListeners('connection').once('connection', (socket: Socket) => {
    socket.once('data', () => {
      socket.pause().write('HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno');
    });
  });
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const body = Buffer.alloc(64 * MIB);
  const answer = await send(url, body);
  expect([answer.status, await answer.text()]).toEqual([403, 'no']);
  body.fill(1);
  const [socket] = await accepted;
  let hasReused = false;
  socket.on('data', (piece) => {
    hasReused ||= piece.includes(1);
  });
  socket.resume();
  await once(socket, 'end');
  socket.destroy();
  expect(hasReused).toBe(false);
});

test('fails with half an answer, without one, and when it is given up', async () => {
  const abort = new AbortController();
  const url = await serve(async (req, res) => {
    const body = (await buffer(req)).toString();
    if (body === 'half') res.writeHead(200, { 'content-length': 10 }).write('half', () => res.destroy());
    else if (body === 'none') res.destroy();
    else abort.abort(new Error('it takes too long'));
  });
  await expect(send(url, Buffer.from('half'))).rejects.toThrow('aborted');
  await expect(send(url, Buffer.from('none'))).rejects.toThrow('hang up');
  const given = send(url, Buffer.from('give up'), abort.signal);
  await expect(given).rejects.toMatchObject({ cause: { message: 'it takes too long' } });
  await waitFor('the connections to go', async () => (await openConnections()) === 0);
});
