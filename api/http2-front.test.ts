import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { type AddressInfo, connect as connectTcp, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import express, { type Express } from 'express';
import { mediaKey } from '../core/objects.ts';
import { type StartedApi, startApi } from '../tests/support/start-api.ts';
import { waitFor } from '../tests/support/wait-for.ts';
import { addHttp2Front } from './http2-front.ts';
import { type Listening, listen } from './listen.ts';

const MIB = 2 ** 20;
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

const FRAMES = { DATA: 0, HEADERS: 1, RST_STREAM: 3, SETTINGS: 4, END_STREAM: 1, END_HEADERS: 4 };
const EMPTY_SETTINGS = String.fromCharCode(0, 0, 0, FRAMES.SETTINGS, 0, 0, 0, 0, 0);

/** Of the first request on a connection. */
function frame(type: number, flags: number, payload: string | Buffer): Buffer {
  const STREAM_ID = 1;
  return Buffer.concat([
    Buffer.from([0, 0, payload.length, type, flags, 0, 0, 0, STREAM_ID]),
    Buffer.from(payload),
  ]);
}

// From the table of headers that every connection has (RFC 7541, appendix A).
const POST = Buffer.from([0x83]);
const SCHEME_HTTP = Buffer.from([0x86]);
const AUTHORITY = [1];
const PATH = [4];
const CONTENT_LENGTH = [15, 28 - 15];

function header(name: readonly number[], value: string): Buffer {
  return Buffer.from([...name, value.length, ...Buffer.from(value)]);
}

interface Answer {
  status: number | undefined;
  headers: IncomingHttpHeaders;
  text: string;
  /** Whether the answer came to its end. */
  isWhole: boolean;
  rstCode: number;
}

async function answerOf(stream: ClientHttp2Stream, { closesAfterAnswer = false } = {}): Promise<Answer> {
  let headers: IncomingHttpHeaders = {};
  let isWhole = false;
  const pieces: Buffer[] = [];
  stream
    .on('response', (received) => {
      headers = received;
    })
    .on('data', (piece: Buffer) => pieces.push(piece))
    .on('end', () => {
      isWhole = stream.rstCode === constants.NGHTTP2_NO_ERROR;
      if (closesAfterAnswer) stream.close();
    })
    .on('error', () => {});
  await new Promise((resolve) => stream.once('close', resolve));
  const status = headers[':status'] as number | undefined;
  return { status, headers, text: Buffer.concat(pieces).toString(), isWhole, rstCode: stream.rstCode ?? -1 };
}

function get(session: ClientHttp2Session, path: string, headers: OutgoingHttpHeaders = {}): Promise<Answer> {
  return answerOf(session.request({ ':path': path, ...headers }));
}

/** @returns everything until the server closes */
async function readAll(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (piece: Buffer) => {
    text += piece.toString('latin1');
  });
  await once(socket, 'close');
  return text;
}

describe('the API over HTTP/2 without TLS', () => {
  let api: StartedApi;
  let session: ClientHttp2Session;

  beforeEach(async () => {
    api = await startApi({}, { http2: true });
    session = connect(api.url);
  });

  afterEach(async () => {
    session.destroy();
    await api.stop();
  });

  test('answers as it does over HTTP/1 on the same port, problems included', async () => {
    for (const path of ['/health/live', '/v1/transcriptions', '/v1/transcriptions/tr_nothing', '/nowhere']) {
      const http2 = await get(session, path);
      const http1 = await fetch(api.url + path);
      const body = (text: string) => ({ ...JSON.parse(text), request_id: null });
      expect(http2.status).toBe(http1.status);
      expect(body(http2.text)).toEqual(body(await http1.text()));
      expect(http2.headers['content-type']).toBe(http1.headers.get('content-type'));
      expect(http2.headers['x-content-type-options']).toBe('nosniff');
    }
    // The address that links in answers begin with.
    const { headers } = await post(formOf(Buffer.from('ID3')));
    expect(headers.location).toMatch(`${api.url}/v1/transcriptions/tr_`);
  });

  test('stores an upload of any size, bit for bit', async () => {
    const sizeBytes = 120 * MIB + 12_345;
    const pieces = [randomBytes(MIB), randomBytes(333_333), randomBytes(7)];
    const sent = createHash('sha256');
    const stream = session.request({
      ':method': 'POST',
      ':path': '/v1/transcriptions',
      'content-type': FORM_TYPE,
    });
    const answered = answerOf(stream);
    await pipeline(async function* () {
      yield FORM_HEAD;
      for (let n = 0, left = sizeBytes; left > 0; n++) {
        const piece = (pieces[n % pieces.length] as Buffer).subarray(0, left);
        left -= piece.length;
        sent.update(piece);
        yield piece;
      }
      yield FORM_TAIL;
    }, stream);
    const { status, text } = await answered;
    expect(status).toBe(202);
    const { id, source } = JSON.parse(text);
    expect(source.bytes).toBe(sizeBytes);
    const stored = createHash('sha256');
    await pipeline(await api.blobs.read(mediaKey({ owner: 'local', id })), stored);
    expect(stored.digest('hex')).toBe(sent.digest('hex'));
  }, 60_000);

  test('answers two hundred requests on one connection, each to its end', async () => {
    const answers = await Promise.all(Array.from({ length: 200 }, () => get(session, '/v1/transcriptions')));
    expect(answers.filter(({ status, isWhole }) => status === 200 && isWhole)).toHaveLength(200);
    const lines = await waitFor('a line in the log for each', () => {
      const written = api.log.filter((line) => line.includes('"path":"/v1/transcriptions"'));
      return written.length === 200 ? written : undefined;
    });
    expect(lines.filter((line) => line.includes('"is_aborted":true'))).toEqual([]);
  });

  test('keeps nothing of an upload whose client resets it, and serves the others', async () => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/v1/transcriptions',
      'content-type': FORM_TYPE,
    });
    const answered = answerOf(stream);
    stream.write(FORM_HEAD);
    stream.write(randomBytes(300_000));
    await waitFor('the upload to begin', async () => (await api.everything()).length > 0);
    stream.close(constants.NGHTTP2_CANCEL);
    await answered;
    await waitFor('everything to be removed', async () => (await api.everything()).length === 0);
    await waitFor('the line in the log', () => api.log.some((line) => line.includes('"is_aborted":true')));
    expect((await get(session, '/health/live')).status).toBe(200);
  });

  test('refuses an upload with the whole problem while the client still sends', async () => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/v1/transcriptions',
      'content-type': FORM_TYPE,
    });
    const answered = answerOf(stream, { closesAfterAnswer: true });
    stream.write(FORM_HEAD.toString().replace('video/mp4', 'application/pdf'));
    const sending = Readable.from(zeros());
    sending.pipe(stream);
    const { status, text, isWhole } = await answered;
    sending.destroy();
    expect(status).toBe(415);
    expect(JSON.parse(text).type).toMatch(/media-type-not-supported$/);
    expect(isWhole).toBe(true);
    expect(await api.everything()).toEqual([]);
  });

  test('is reached by curl', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'curl-'));
    try {
      const { stdout: version } = await promisify(execFile)('curl', ['--version']).catch(() => ({
        stdout: '',
      }));
      if (!/\bHTTP2\b/.test(version)) {
        console.info('skipped: this machine has no curl with HTTP/2');
        return;
      }
      const file = join(folder, 'a.mp4');
      const bytes = randomBytes(5 * MIB);
      await writeFile(file, bytes);
      const curl = async (...args: string[]) => {
        const format = ['-w', '\n%{http_code} %{http_version}', '--max-time', '20'];
        const command = ['-sS', '--http2-prior-knowledge', ...format, ...args];
        const { stdout } = await promisify(execFile)('curl', command);
        const [body = '', facts] = stdout.split(/\n(?=[^\n]*$)/);
        return { body: JSON.parse(body), facts };
      };
      const upload = await curl('-F', `file=@${file};type=video/mp4`, `${api.url}/v1/transcriptions`);
      expect(upload.facts).toBe('202 2');
      expect(upload.body.source.bytes).toBe(bytes.length);
      const refused = await curl('-F', `file=@${file};type=image/png`, `${api.url}/v1/transcriptions`);
      expect(refused).toMatchObject({ facts: '415 2', body: { status: 415 } });
      const one = await curl(`${api.url}/v1/transcriptions/${upload.body.id}`);
      expect(one).toMatchObject({ facts: '200 2', body: { id: upload.body.id } });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  function post(body: Buffer): Promise<Answer> {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/v1/transcriptions',
      'content-type': FORM_TYPE,
    });
    stream.end(body);
    return answerOf(stream);
  }
});

describe('an HTTP/2 request', () => {
  let app: Express;
  let server: Listening;
  let session: ClientHttp2Session;

  beforeEach(async () => {
    app = express();
    server = await listen(app, { host: '127.0.0.1', port: 0, http2: true });
    session = connect(server.url);
  });

  afterEach(async () => {
    session.destroy();
    await server.close(0);
  });

  test('has the headers of HTTP/1, without those about a connection', async () => {
    app.get('/headers', (req, res) => void res.set('X-Answer', 'caf\u00e9').json(req.headers));
    const { text, headers } = await get(session, '/headers', {
      ':authority': 'transcripts.example.com',
      cookie: ['a=1', 'b=2'],
      'x-two': ['1', '2'],
      'x-name': 'caf\u00e9',
      te: 'trailers',
    });
    expect(JSON.parse(text)).toEqual({
      host: 'transcripts.example.com',
      cookie: 'a=1; b=2',
      'x-two': '1, 2',
      'x-name': 'caf\u00e9',
      connection: 'close',
    });
    expect(Object.keys(headers)).not.toContain('connection');
    expect(headers['x-answer']).toBe('caf\u00e9');
  });

  test('has its body, whatever its method and with or without its length', async () => {
    app.all('/echo', (req, res) => void req.pipe(res));
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'GET']) {
      for (const length of [{}, { 'content-length': 5 }]) {
        const stream = session.request(
          { ':method': method, ':path': '/echo', ...length },
          { endStream: false },
        );
        stream.end('GET /');
        expect(await answerOf(stream)).toMatchObject({ status: 200, text: 'GET /', isWhole: true });
      }
    }
  });

  test('may have no body and no answer', async () => {
    app.all('/empty', (req, res) => void res.status(req.method === 'HEAD' ? 200 : 204).end());
    for (const method of ['HEAD', 'GET', 'POST', 'DELETE', 'OPTIONS']) {
      const stream = session.request({ ':method': method, ':path': '/empty' }, { endStream: true });
      expect(await answerOf(stream)).toMatchObject({
        status: method === 'HEAD' ? 200 : 204,
        text: '',
        isWhole: true,
      });
    }
  });

  test('is told to go on when it expects that', async () => {
    app.post(
      '/sizes',
      (req, res) => void req.on('data', (piece) => res.write(`${piece.length}`)).on('end', () => res.end()),
    );
    const stream = session.request({ ':method': 'POST', ':path': '/sizes', expect: '100-continue' });
    const answered = answerOf(stream);
    const [interim] = (await once(stream, 'headers')) as [IncomingHttpHeaders];
    expect(interim[':status']).toBe(100);
    stream.end('abc');
    expect(await answered).toMatchObject({ status: 200, text: '3' });
  });

  test('that HTTP/1 has no words for, or that is too long for it, is refused alone', async () => {
    app.get('/here', (_req, res) => void res.end());
    expect((await get(session, '/caf\u00e9')).status).toBe(400);
    const invented = session.request({ ':path': '/here', ':method': 'INVENTED' }, { endStream: true });
    expect((await answerOf(invented)).status).toBe(400);
    expect((await get(session, '/here', { 'x-long': 'x'.repeat(20_000) })).status).toBe(431);
    expect((await answerOf(session.request({ ':method': 'CONNECT', ':authority': 'a:1' }))).isWhole).toBe(
      false,
    );
    expect((await get(session, '/here')).status).toBe(200);
  });

  test('is sent no faster than it is read', async () => {
    app.post('/never', () => {});
    const stream = session.request({ ':method': 'POST', ':path': '/never' });
    stream.on('error', () => {});
    let sentBytes = 0;
    const sending = Readable.from(zeros((sizeBytes) => (sentBytes += sizeBytes)));
    sending.pipe(stream);
    await standsStill(() => sentBytes);
    sending.destroy();
    expect(sentBytes).toBeGreaterThan(200_000);
    expect(sentBytes).toBeLessThan(2 * MIB);
  });

  test('is answered no faster than its client reads, and at its pace to the end', async () => {
    let sentBytes = 0;
    app.get(
      '/long',
      (_req, res) => void Readable.from(zeros((sizeBytes) => (sentBytes += sizeBytes), 16 * MIB)).pipe(res),
    );
    const stream = session.request({ ':path': '/long' });
    await once(stream, 'response');
    await standsStill(() => sentBytes);
    expect(sentBytes).toBeLessThan(2 * MIB);
    expect((await answerOf(stream)).text).toHaveLength(16 * MIB);
  });

  test('whose answer breaks off is reset, never ended', async () => {
    app.get('/with-length', (_req, res) => {
      res.set('Content-Length', '100').write('half', () => res.destroy());
    });
    app.get('/chunked', (_req, res) => void res.write('half', () => res.destroy()));
    app.get('/none', (_req, res) => void res.destroy());
    for (const path of ['/with-length', '/chunked', '/none']) {
      const answer = await get(session, path);
      expect(answer).toMatchObject({ isWhole: false, rstCode: constants.NGHTTP2_INTERNAL_ERROR });
    }
  });

  test('whose client goes away is closed for the server, before and after the headers of the answer', async () => {
    const closed: string[] = [];
    app.get('/:when', (req, res) => {
      if (req.params.when === 'after') res.write('half');
      res.once('close', () => closed.push(`${req.params.when} ${res.writableFinished}`));
    });
    for (const [when, end] of [
      ['before', (stream: ClientHttp2Stream) => stream.close(constants.NGHTTP2_CANCEL)],
      ['after', (stream: ClientHttp2Stream) => stream.close(constants.NGHTTP2_CANCEL)],
      ['after', () => session.destroy()],
    ] as const) {
      const stream = session.request({ ':path': `/${when}` });
      stream.on('error', () => {});
      await (when === 'after' ? once(stream, 'response') : get(session, '/nowhere'.repeat(2)));
      end(stream);
      await waitFor('the server to notice', () => closed.length > 0);
      expect(closed.splice(0)).toEqual([`${when} false`]);
    }
  });

  test('whose body breaks off, or is not as long as it says, never looks whole', async () => {
    let arrived = 0;
    const seen: string[] = [];
    app.post('/:how', (req, res) => {
      req.once('data', () => (arrived += 1)).on('error', () => {});
      req.once('end', () => res.end()).once('close', () => seen.push(`${req.params.how} ${req.complete}`));
    });
    const { RST_STREAM, HEADERS, DATA, END_STREAM, END_HEADERS } = FRAMES;
    const reset = (code: number) => frame(RST_STREAM, 0, Buffer.from([0, 0, 0, code]));
    const breaks: [string, string | undefined, (socket: Socket) => unknown][] = [
      ['ended', undefined, (socket) => socket.write(frame(DATA, END_STREAM, ''))],
      ['canceled', undefined, (socket) => socket.write(reset(constants.NGHTTP2_CANCEL))],
      ['reset', undefined, (socket) => socket.write(reset(constants.NGHTTP2_NO_ERROR))],
      ['closed', undefined, (socket) => socket.end()],
      ['broken', undefined, (socket) => socket.resetAndDestroy()],
      ['short', '9', (socket) => socket.write(frame(DATA, END_STREAM, ''))],
      ['long', '4', (socket) => socket.write(frame(DATA, END_STREAM, 'GET / HTTP/1.1\r\n\r\n'))],
    ];
    for (const [how, length, end] of breaks) {
      // Node's own client ends a request before it resets it.
      const socket = connectTcp(server.port, '127.0.0.1').on('error', () => {});
      socket.write(PREFACE + EMPTY_SETTINGS);
      const headers = [POST, SCHEME_HTTP, header(PATH, `/${how}`), header(AUTHORITY, 'a')];
      if (length !== undefined) headers.push(header(CONTENT_LENGTH, length));
      socket.write(frame(HEADERS, END_HEADERS, Buffer.concat(headers)));
      socket.write(frame(DATA, 0, 'abc'));
      await waitFor('the body to begin', () => arrived > 0);
      arrived = 0;
      end(socket);
      await waitFor('the server to notice', () => seen.length > 0);
      expect(seen.splice(0)).toEqual([`${how} ${how === 'ended'}`]);
      socket.destroy();
    }
  });

  test('that is refused early takes nothing from those that follow', async () => {
    app.post('/refuse', (_req, res) => void res.status(413).send('x'.repeat(MIB)));
    for (let n = 0; n < 20; n++) {
      const stream = session.request({ ':method': 'POST', ':path': '/refuse' });
      const sending = Readable.from(zeros());
      sending.pipe(stream);
      const { status, text, isWhole } = await answerOf(stream, { closesAfterAnswer: true });
      sending.destroy();
      expect({ status, size: text.length, isWhole }).toEqual({ status: 413, size: MIB, isWhole: true });
    }
  });
});

describe('a port for both protocols', () => {
  const both = async (
    app: RequestListener,
    { idleTimeoutMs = 60_000, lingerMs = 60_000 } = {},
  ): Promise<{ port: number; [Symbol.asyncDispose](): Promise<void>; count(): Promise<number> }> => {
    const server = createServer(app);
    const front = addHttp2Front(server, { idleTimeoutMs, lingerMs });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return {
      port: (server.address() as AddressInfo).port,
      count: promisify(server.getConnections).bind(server),
      async [Symbol.asyncDispose]() {
        const closed = once(server, 'close');
        server.close();
        server.closeAllConnections();
        front.destroy();
        await closed;
      },
    };
  };
  const hello: RequestListener = (req, res) => void res.end(`hello over ${req.httpVersion} ${req.url}`);

  test('knows the preface of HTTP/2 in pieces of any size', async () => {
    await using server = await both(hello);
    const socket = connectTcp(server.port, '127.0.0.1').setNoDelay();
    for (const byte of PREFACE) {
      socket.write(byte);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    // Which only HTTP/2 answers.
    socket.write(EMPTY_SETTINGS);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer[3]).toBe(FRAMES.SETTINGS);
    socket.destroy();
  });

  test('leaves everything else to HTTP/1, as it came', async () => {
    await using server = await both(hello);
    const talk = async (pieces: readonly string[]) => {
      const socket = connectTcp(server.port, '127.0.0.1').setNoDelay();
      const answer = readAll(socket);
      for (const piece of pieces) {
        socket.write(piece);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      socket.end();
      return answer;
    };
    const get = 'GET /a HTTP/1.1\r\nHost: a\r\n\r\n';
    expect(await talk([get])).toContain('hello over 1.1 /a');
    expect(await talk([...get])).toContain('hello over 1.1 /a');
    // Two on one connection.
    expect((await talk([get, get])).match(/hello over 1\.1/g)).toHaveLength(2);
    expect((await talk([get + get])).match(/hello over 1\.1/g)).toHaveLength(2);
    for (const first of [`${PREFACE.slice(0, -1)}x`, 'PRI * HTTP/1.1\r\n\r\n']) {
      expect(await talk([first])).toMatch(/^HTTP\/1\.1 400 /);
    }
    for (const half of ['PRI * HTTP/2.0\r\n\r\n', 'P']) expect(await talk([half])).toBe('');
    expect(await talk([])).toBe('');
    expect(await server.count()).toBe(0);
  });

  test('gives up an HTTP/2 connection, or a request on it, on which nothing moves', async () => {
    await using server = await both((req, res) => req.url === '/hang' || res.end(), { idleTimeoutMs: 300 });
    const session = connect(`http://127.0.0.1:${server.port}`);
    const hanging = answerOf(session.request({ ':path': '/hang' }));
    expect((await get(session, '/')).status).toBe(200);
    expect((await hanging).isWhole).toBe(false);
    if (!session.closed) await once(session, 'close');
    await waitFor('the connection to go', async () => (await server.count()) === 0);
  });

  test('stops a client that goes on sending although it has its answer', async () => {
    await using server = await both((_req, res) => void res.writeHead(413).end('too large'), {
      lingerMs: 200,
    });
    const session = connect(`http://127.0.0.1:${server.port}`);
    const stream = session.request({ ':method': 'POST', ':path': '/' });
    let sentBytes = 0;
    const sending = Readable.from(zeros((sizeBytes) => (sentBytes += sizeBytes)));
    sending.pipe(stream);
    const answer = await answerOf(stream);
    sending.destroy();
    expect(answer).toMatchObject({ status: 413, text: 'too large', isWhole: true });
    expect(sentBytes).toBeGreaterThan(2 * MIB);
    session.destroy();
  });

  test('does not wait for a client that keeps its connection after it was told to go', async () => {
    await using server = await both(hello, { idleTimeoutMs: 100 });
    const socket = connectTcp({ port: server.port, host: '127.0.0.1', allowHalfOpen: true });
    socket.on('error', () => {});
    socket.write(PREFACE + EMPTY_SETTINGS);
    // It says that it goes away, and stays.
    socket.write(Buffer.from([0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    socket.resume();
    await waitFor('the connection to be there', async () => (await server.count()) === 1);
    await waitFor('the connection to go', async () => (await server.count()) === 0);
    socket.destroy();
  });

  test('takes no HTTP/2 unless it is told to', async () => {
    const server = await listen(hello, { host: '127.0.0.1', port: 0 });
    const socket = connectTcp(server.port, '127.0.0.1');
    socket.write(PREFACE);
    expect(await readAll(socket)).toMatch(/^HTTP\/1\.1 400 /);
    await server.close(0);
  });
});

describe('stopping', () => {
  test('lets requests that run finish, takes no more, and leaves no connection', async () => {
    const { promise: isRunning, resolve: runs } = Promise.withResolvers<void>();
    const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
    const app = express().get('/slow', async (_req, res) => {
      runs();
      await mayEnd;
      res.end('done');
    });
    const server = await listen(app, { host: '127.0.0.1', port: 0, http2: true });
    const session = connect(server.url);
    const undecided = connectTcp(server.port, '127.0.0.1').on('error', () => {});
    undecided.write('PRI');
    const idle = connect(server.url);
    await once(idle, 'remoteSettings');
    const answered = get(session, '/slow');
    await isRunning;
    const told = once(session, 'goaway');
    const closed = server.close(20_000);
    await told;
    end();
    expect(await answered).toMatchObject({ status: 200, text: 'done', isWhole: true });
    await closed;
    await waitFor('the clients to notice', () => session.destroyed && idle.destroyed && undecided.destroyed);
  });

  test('breaks off those that take too long', async () => {
    const { promise: areRunning, resolve: run } = Promise.withResolvers<void>();
    let running = 0;
    const server = await listen(
      () => {
        running += 1;
        if (running === 2) run();
      },
      { host: '127.0.0.1', port: 0, http2: true },
    );
    const session = connect(server.url);
    const http2 = get(session, '/');
    const http1 = fetch(server.url).catch(() => 'broken off');
    await areRunning;
    await server.close(50);
    expect((await http2).isWhole).toBe(false);
    expect(await http1).toBe('broken off');
    await waitFor('the client to notice', () => session.destroyed);
  });
});

const FORM_TYPE = 'multipart/form-data; boundary=b';
const FORM_HEAD = Buffer.from(
  '--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\n',
);
const FORM_TAIL = Buffer.from('\r\n--b--\r\n');

function formOf(media: Buffer): Buffer {
  return Buffer.concat([FORM_HEAD, media, FORM_TAIL]);
}

function* zeros(sent: (sizeBytes: number) => void = () => {}, sizeBytes = 2 ** 40): Generator<Buffer> {
  const piece = Buffer.alloc(32 * 1024);
  for (let at = 0; at < sizeBytes; at += piece.length) {
    sent(piece.length);
    yield piece;
  }
}

/** Waits until nothing more is asked for. */
async function standsStill(count: () => number): Promise<void> {
  for (let before = -1; count() !== before || before === 0; ) {
    before = count();
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
