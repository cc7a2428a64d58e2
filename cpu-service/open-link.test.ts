import { once } from 'node:events';
import { type AddressInfo, createServer, isIP } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from '@jest/globals';
import { parseNetworks } from '../core/link-guard.ts';
import { type Answer, type Origin, sendFile, startOrigin } from '../tests/support/origin.ts';
import { selfSigned } from '../tests/support/self-signed.ts';
import { waitFor } from '../tests/support/wait-for.ts';
import { watchConnections } from '../tests/support/watch-connections.ts';
import { openLink } from './open-link.ts';

const FILE = Buffer.from('RIFF and so on, as far as anybody here looks');
const NETWORKS = parseNetworks('127.0.0.1/32');
/** On a busy machine the answer of a healthy origin takes most of a second. */
const LIMITS = { connectMs: 2_000, headersMs: 2_000, idleMs: 300, minBytesPerIdle: 20 };

let origin: Origin | undefined;
afterEach(async () => {
  await origin?.close();
  origin = undefined;
});

/** Opens `path` at an origin that answers like this. */
async function openAt(
  answer: Answer,
  {
    path = '/a.wav',
    from = { startAt: 0 },
    maxBytes = 1_000_000,
    certificate,
    signal = new AbortController().signal,
    ca,
    host,
    limits = {},
  }: {
    path?: string;
    from?: { startAt: number; validator?: string };
    maxBytes?: number;
    certificate?: { key: string; cert: string };
    signal?: AbortSignal;
    ca?: string;
    host?: string;
    limits?: Partial<typeof LIMITS>;
  } = {},
) {
  origin = await startOrigin(answer, certificate);
  const url = host === undefined ? origin.url : `https://${host}:${origin.port}`;
  return await openLink(url + path, {
    ...from,
    networks: NETWORKS,
    maxBytes,
    signal,
    limits: { ...LIMITS, ...limits },
    ca: ca ?? origin.cert,
    resolve: async () => [{ address: '127.0.0.1', family: isIP('127.0.0.1') }],
  });
}

const send =
  (status: number, headers: Record<string, string | number> = {}, body: Buffer | string = ''): Answer =>
  (_req, res) => {
    res.writeHead(status, headers).end(body);
  };
const WAV = { 'content-type': 'audio/wav' };

describe('an open link', () => {
  test('gives the bytes, and says what they are', async () => {
    const media = await openAt((req, res) => sendFile(req, res, FILE));
    expect(media).toMatchObject({
      sizeBytes: FILE.length,
      validator: '"1"',
      contentType: 'audio/wav',
      filename: 'a.wav',
      startsAt: 0,
    });
    expect(await buffer(media.body)).toEqual(FILE);
  });

  test('is asked for without cookies, credentials or compression, and without the fragment', async () => {
    const media = await openAt((req, res) => sendFile(req, res, FILE), { path: '/a.wav?token=1#t=5' });
    await buffer(media.body);
    expect(origin?.requests).toEqual([
      {
        url: '/a.wav?token=1',
        headers: {
          host: `127.0.0.1:${origin?.port}`,
          accept: '*/*',
          'accept-encoding': 'identity',
          'user-agent': 'zeroscribe',
          connection: 'close',
        },
      },
    ]);
  });

  test('by a name goes to the address that was checked, and shows the name to the server', async () => {
    const certificate = selfSigned(['media.example']);
    using connections = watchConnections();
    const media = await openAt((req, res) => sendFile(req, res, FILE), {
      certificate,
      host: 'media.example',
    });
    expect(await buffer(media.body)).toEqual(FILE);
    expect(connections.attempts).toEqual([`127.0.0.1:${origin?.port}`]);
    expect(origin?.requests[0]?.headers.host).toBe(`media.example:${origin?.port}`);
  });

  test('uses a connection of its own each time', async () => {
    const media = await openAt((req, res) => sendFile(req, res, FILE));
    await buffer(media.body);
    const again = await openLink(`${origin?.url}/a.wav`, {
      startAt: 0,
      networks: NETWORKS,
      maxBytes: 1_000,
      signal: new AbortController().signal,
      ca: origin?.cert ?? '',
    });
    await buffer(again.body);
    expect(origin?.connections).toBe(2);
  });

  test.each([301, 302, 303, 307, 308])(
    'follows a redirect (%d), and keeps the name of the link',
    async (status) => {
      const media = await openAt((req, res, nth) => {
        if (nth <= 5)
          res.writeHead(status, { location: nth === 1 ? '/b' : `https://127.0.0.1:${origin?.port}/c` }).end();
        else sendFile(req, res, FILE);
      });
      expect(media.filename).toBe('a.wav');
      expect(await buffer(media.body)).toEqual(FILE);
      expect(origin?.requests.map(({ url }) => url)).toEqual(['/a.wav', '/b', '/c', '/c', '/c', '/c']);
    },
  );

  test('sends neither what it was asked for before, nor where it comes from, after a redirect', async () => {
    const media = await openAt((req, res, nth) => {
      if (nth === 1) res.writeHead(302, { location: '/b', 'set-cookie': 'a=1' }).end();
      else sendFile(req, res, FILE);
    });
    media.body.destroy();
    expect(Object.keys(origin?.requests[1]?.headers ?? {}).sort()).toEqual(
      ['accept', 'accept-encoding', 'connection', 'host', 'user-agent'].sort(),
    );
  });

  test('closes its connection at once when nobody wants the rest', async () => {
    let isClosed = false;
    const answer: Answer = (_req, res) => {
      res.writeHead(200, WAV).write('some');
      res.once('close', () => {
        isClosed = true;
      });
    };
    const media = await openAt(answer, { limits: { idleMs: 600_000 } });
    const reading = buffer(media.body);
    await sleep(20);
    media.body.destroy();
    await expect(reading).rejects.toThrow();
    await waitFor('the connection to close', () => isClosed, { timeoutMs: 5_000 });
  });

  test.each([
    ['attachment; filename="board meeting.mp3"', '/x', 'board meeting.mp3'],
    [
      "attachment; filename=x.mp3; filename*=UTF-8''Sitzung%20%C3%BCber%20B%C3%BCcher.mp3",
      '/x',
      'Sitzung über Bücher.mp3',
    ],
    ['attachment; filename="../../etc/passwd"', '/x', 'passwd'],
    ['attachment; filename="a\\"b.mp3"', '/x', 'a"b.mp3'],
    ['attachment; filename=bare.mp3', '/x', 'bare.mp3'],
    ["attachment; filename*=UTF-8''%E0%A4%A", '/x', '%E0%A4%A'],
    ['attachment', '/folder/t%C3%A4lk.mp3', 'tälk.mp3'],
    ['', '/', null],
  ])('is called by %j at %s: %s', async (disposition, path, filename) => {
    const media = await openAt(send(200, { ...WAV, 'content-disposition': disposition }, FILE), { path });
    expect(media.filename).toBe(filename);
    media.body.destroy();
  });

  test.each([
    [{ etag: '"abc"' }, '"abc"'],
    [{ etag: 'W/"abc"', 'last-modified': 'Wed, 01 Jan 2025 00:00:00 GMT' }, null],
    [{ 'last-modified': 'Wed, 01 Jan 2025 00:00:00 GMT' }, 'Wed, 01 Jan 2025 00:00:00 GMT'],
    [{ 'last-modified': new Date(Date.now() + 60_000).toUTCString() }, null],
    [{ etag: `"${'a'.repeat(500)}"` }, null],
    [{}, null],
  ])('with %j can be continued by %j', async (headers, validator) => {
    const media = await openAt(send(200, { ...WAV, ...headers }, FILE));
    expect(media.validator).toBe(validator);
    media.body.destroy();
  });

  test('without a length has no size, and may be as long as is allowed', async () => {
    const answer: Answer = (_req, res) => {
      res.writeHead(200, WAV).write(FILE);
      res.end();
    };
    const media = await openAt(answer, { maxBytes: FILE.length });
    expect(media.sizeBytes).toBeNull();
    expect(await buffer(media.body)).toEqual(FILE);
  });

  test('of an unknown type is known by its name', async () => {
    const media = await openAt(send(200, { 'content-type': 'application/octet-stream' }, FILE), {
      path: '/a.mp3',
    });
    expect(media.contentType).toBe('audio/mpeg');
    media.body.destroy();
  });
});

describe('a link that is taken up again', () => {
  const from = { startAt: 10, validator: '"1"' };

  test('begins where it is asked to', async () => {
    const media = await openAt((req, res) => sendFile(req, res, FILE), { from });
    expect(media).toMatchObject({ startsAt: 10, sizeBytes: FILE.length, validator: '"1"' });
    expect(await buffer(media.body)).toEqual(FILE.subarray(10));
    expect(origin?.requests[0]?.headers).toMatchObject({ range: 'bytes=10-', 'if-range': '"1"' });
  });

  test('begins anew when the origin knows no ranges, or has something else by now', async () => {
    for (const options of [{ ignoresRange: true }, { etag: '"2"' }]) {
      const media = await openAt((req, res) => sendFile(req, res, FILE, options), { from });
      expect(media).toMatchObject({ startsAt: 0, validator: options.etag ?? '"1"' });
      expect(await buffer(media.body)).toEqual(FILE);
      await origin?.close();
    }
  });

  test.each([
    ['a part of something else', 206, { etag: '"2"', 'content-range': 'bytes 10-43/44' }],
    ['another part', 206, { etag: '"1"', 'content-range': 'bytes 0-43/44' }],
    ['a part of unknown size', 206, { etag: '"1"', 'content-range': 'bytes 10-43/*' }],
    ['a part without saying which', 206, { etag: '"1"' }],
    ['several parts', 206, { etag: '"1"', 'content-type': 'multipart/byteranges; boundary=x' }],
    ['that there is no such part', 416, { 'content-range': 'bytes */5' }],
  ])('asks again for the whole when it is answered %s', async (_, status, headers) => {
    const media = await openAt(
      (req, res, nth) => {
        if (nth === 1) res.writeHead(status, { ...WAV, ...headers }).end(FILE.subarray(10));
        else sendFile(req, res, FILE);
      },
      { from },
    );
    expect(media.startsAt).toBe(0);
    expect(await buffer(media.body)).toEqual(FILE);
    expect(origin?.requests[1]?.headers).not.toHaveProperty('range');
  });

  test('is not asked for a part when nothing says of which content', async () => {
    const media = await openAt((req, res) => sendFile(req, res, FILE), { from: { startAt: 10 } });
    expect(media.startsAt).toBe(0);
    media.body.destroy();
    expect(origin?.requests[0]?.headers).not.toHaveProperty('range');
  });
});

describe('a link fails for good', () => {
  test.each([400, 401, 403, 404, 410, 451, 204, 206, 304])('when the answer is %d', async (status) => {
    const opening = openAt(send(status, WAV), { path: '/a.wav?token=SECRET' });
    await expect(opening).rejects.toMatchObject({ slug: 'link-failed' });
    await expect(opening).rejects.not.toThrow('SECRET');
  });

  test.each([
    ['text/html; charset=utf-8', 'a web page'],
    ['TEXT/HTML', 'a web page'],
    ['application/json', 'application/json'],
    ['application/xhtml+xml', 'a web page'],
    ['image/png', 'image/png'],
    ['application/vnd.apple.mpegurl', 'a playlist'],
    ['audio/x-mpegurl', 'a playlist'],
    ['application/dash+xml', 'a playlist'],
  ])('when it leads to %s', async (type, what) => {
    const opening = openAt(send(200, { 'content-type': type }, '<html>'));
    await expect(opening).rejects.toMatchObject({
      slug: 'link-failed',
      message: expect.stringContaining(what),
    });
  });

  test('when it is redirected a sixth time', async () => {
    const opening = openAt(send(302, { location: '/again' }));
    await expect(opening).rejects.toMatchObject({ slug: 'link-failed' });
    expect(origin?.requests).toHaveLength(6);
  });

  test('when it is redirected nowhere', async () => {
    await expect(openAt(send(302))).rejects.toMatchObject({ slug: 'link-failed' });
  });

  test.each(['gzip', 'br', 'deflate, gzip'])('when the answer is encoded (%s)', async (encoding) => {
    const opening = openAt(send(200, { ...WAV, 'content-encoding': encoding }, gzipSync(FILE)));
    await expect(opening).rejects.toMatchObject({
      slug: 'link-failed',
      message: expect.stringMatching('compressed'),
    });
  });

  test('when the headers are huge', async () => {
    const opening = openAt(send(200, { ...WAV, 'x-filler': 'x'.repeat(100_000) }));
    await expect(opening).rejects.toMatchObject({
      slug: 'link-failed',
      message: expect.stringMatching('headers'),
    });
  });

  test.each([
    ['is nobody we trust', selfSigned(), { ca: selfSigned().cert }],
    ['is for another name', selfSigned(['other.example']), { host: 'media.example' }],
    ['is for a name, not the address', selfSigned(['media.example']), {}],
    ['is over', selfSigned(undefined, { validTo: new Date(Date.now() - 1_000) }), {}],
  ])('when the certificate %s, before anything is asked', async (_, certificate, options) => {
    const opening = openAt(send(200, WAV, FILE), { certificate, ...options });
    await expect(opening).rejects.toMatchObject({
      slug: 'link-failed',
      message: expect.stringMatching('certificate'),
    });
    expect(origin?.requests).toEqual([]);
  });

  test('when there is no web server, or not a secure one', async () => {
    for (const greeting of ['HTTP/1.1 200 OK\r\n\r\n', '220 mail.example ESMTP\r\n']) {
      const server = createServer((socket) => void socket.on('error', () => {}).end(greeting)).listen(
        0,
        '127.0.0.1',
      );
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      const { signal } = new AbortController();
      const opening = openLink(`https://127.0.0.1:${port}/`, {
        startAt: 0,
        networks: NETWORKS,
        maxBytes: 1,
        signal,
      });
      await expect(opening).rejects.toMatchObject({ slug: 'link-failed' });
      server.close();
    }
    await expect(openAt((req) => void req.socket.end('220 mail.example ESMTP\r\n'))).rejects.toMatchObject({
      slug: 'link-failed',
    });
  });

  test('when it announces more than is allowed', async () => {
    const opening = openAt((req, res) => sendFile(req, res, FILE), { maxBytes: FILE.length - 1 });
    await expect(opening).rejects.toMatchObject({ slug: 'media-too-large' });
  });

  test('when a part belongs to more than is allowed', async () => {
    const from = { startAt: 10, validator: '"1"' };
    const headers = { ...WAV, etag: '"1"', 'content-range': 'bytes 10-43/99999999' };
    await expect(openAt(send(206, headers, FILE.subarray(10)), { from })).rejects.toMatchObject({
      slug: 'media-too-large',
    });
  });

  test('when it goes on for ever', async () => {
    let sent = 0;
    const endless: Answer = (_req, res) => {
      res.writeHead(200, WAV);
      const more = () => {
        while (!res.destroyed && res.write(Buffer.alloc(16 * 1024))) sent += 16 * 1024;
        sent += 16 * 1024;
      };
      res.on('drain', more);
      more();
    };
    const media = await openAt(endless, { maxBytes: 500_000 });
    await expect(buffer(media.body)).rejects.toMatchObject({ slug: 'media-too-large' });
    await sleep(50);
    const sentThen = sent;
    await sleep(50);
    expect(sent).toBe(sentThen);
  });
});

describe('a link may be reached later', () => {
  test.each([408, 425, 429, 500, 502, 503, 504])('when the answer is %d', async (status) => {
    await expect(openAt(send(status))).rejects.toMatchObject({ slug: 'link-unreachable' });
  });

  test.each([
    ['7', 7],
    [new Date(Date.now() + 3_600_000).toUTCString(), expect.closeTo(3_600, -3)],
    ['soon', undefined],
  ])('and is told when: %s', async (header, seconds) => {
    const opening = openAt(send(429, { 'retry-after': header }));
    await expect(opening).rejects.toMatchObject({
      extensions: seconds === undefined ? {} : { retry_after_seconds: seconds },
    });
  });

  test('when nobody listens', async () => {
    await openAt(send(200, WAV, FILE)).then(({ body }) => body.destroy());
    const { url = '' } = origin ?? {};
    await origin?.close();
    origin = undefined;
    const { signal } = new AbortController();
    const opening = openLink(`${url}/a?token=SECRET`, {
      startAt: 0,
      networks: NETWORKS,
      maxBytes: 1,
      signal,
    });
    await expect(opening).rejects.toMatchObject({ slug: 'link-unreachable' });
    await expect(opening).rejects.not.toThrow('SECRET');
  });

  test('when the connection is closed instead of an answer', async () => {
    await expect(openAt((req) => req.socket.destroy())).rejects.toMatchObject({ slug: 'link-unreachable' });
  });

  test('when the headers come one byte at a time', async () => {
    const slow: Answer = (req, res) => {
      const timer = setInterval(() => req.socket.write('x'), 20);
      req.socket.write('HTTP/1.1 200 OK\r\nx-slow: ');
      res.once('close', () => clearInterval(timer));
    };
    await expect(openAt(slow)).rejects.toMatchObject({
      slug: 'link-unreachable',
      message: expect.stringMatching('too long'),
    });
  });

  test('when one provisional answer follows another', async () => {
    const slow: Answer = (_req, res) => {
      const timer = setInterval(() => res.writeProcessing(), 20);
      res.once('close', () => clearInterval(timer));
    };
    await expect(openAt(slow)).rejects.toMatchObject({
      slug: 'link-unreachable',
      message: expect.stringMatching('too long'),
    });
  });

  test('when it changes to another protocol', async () => {
    const upgrade: Answer = (req) => {
      req.socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n');
    };
    await expect(openAt(upgrade)).rejects.toMatchObject({ slug: 'link-unreachable' });
  });

  test.each([
    ['says nothing', 0],
    ['says next to nothing', 1],
  ])('when the body %s', async (_, bytes) => {
    const slow: Answer = (_req, res) => {
      res.writeHead(200, WAV).flushHeaders();
      const timer = setInterval(() => res.write(Buffer.alloc(bytes)), 40);
      res.once('close', () => clearInterval(timer));
    };
    const media = await openAt(slow);
    await expect(buffer(media.body)).rejects.toMatchObject({
      slug: 'link-unreachable',
      message: expect.stringMatching('too long'),
    });
  });

  test('but not when we are the ones who are slow', async () => {
    const media = await openAt((req, res) => sendFile(req, res, Buffer.alloc(300_000, 'x')));
    let sizeBytes = 0;
    for await (const piece of media.body) {
      if (sizeBytes === 0) await sleep(700);
      sizeBytes += (piece as Buffer).length;
    }
    expect(sizeBytes).toBe(300_000);
  });

  test('when it breaks off', async () => {
    const media = await openAt((req, res) => sendFile(req, res, FILE, { cutAfter: 10 }));
    await expect(buffer(media.body)).rejects.toMatchObject({ slug: 'link-unreachable' });
  });

  test('when it breaks off without having said how long it is', async () => {
    const media = await openAt((_req, res) => {
      res.writeHead(200, WAV).write('some', () => setTimeout(() => res.destroy(), 20));
    });
    await expect(buffer(media.body)).rejects.toMatchObject({ slug: 'link-unreachable' });
  });

  test('when its name is not found in time', async () => {
    const { signal } = new AbortController();
    const opening = openLink('https://slow.example/', {
      startAt: 0,
      networks: [],
      maxBytes: 1,
      signal,
      limits: { connectMs: 50 },
      resolve: () => new Promise(() => {}),
    });
    await expect(opening).rejects.toMatchObject({ slug: 'link-unreachable' });
  });
});

describe('an abort', () => {
  test('ends the wait for an answer, with its own reason', async () => {
    const abort = new AbortController();
    const opening = openAt(() => abort.abort(new Error('canceled')), { signal: abort.signal });
    await expect(opening).rejects.toThrow('canceled');
    await waitFor('the connection to close', async () => (origin?.connections ?? 0) === 1);
  });

  test('ends the body, with its own reason', async () => {
    const abort = new AbortController();
    const answer: Answer = (_req, res) => void res.writeHead(200, WAV).write('some');
    const media = await openAt(answer, { signal: abort.signal, limits: { idleMs: 600_000 } });
    const reading = buffer(media.body);
    setTimeout(() => abort.abort(new Error('canceled')), 30);
    await expect(reading).rejects.toThrow('canceled');
  });

  test('that came before makes no connection', async () => {
    using connections = watchConnections();
    const signal = AbortSignal.abort(new Error('canceled'));
    await expect(openAt(send(200, WAV, FILE), { signal })).rejects.toThrow('canceled');
    expect(connections.opened).toBe(0);
  });
});
