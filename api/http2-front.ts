import { type IncomingMessage, request as requestHttp1, type Server } from 'node:http';
import {
  constants,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerSessionOptions,
} from 'node:http2';
import type { Socket } from 'node:net';
import { type Duplex, duplexPair, pipeline } from 'node:stream';

/** What an HTTP/2 client that needs no negotiation sends first (RFC 9113, section 3.4). */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
/** As long as HTTP/1 gives a client to send its headers. */
const PREFACE_TIMEOUT_MS = 60_000;

/** What may be on its way before we say that we have read on. A hundred uploads to a slow store hold so much each. */
const STREAM_WINDOW_BYTES = 2 ** 19;
const CONNECTION_WINDOW_BYTES = 16 * 2 ** 20;

/** What each answer may have waiting for a client that reads slowly. */
const PIECE_BYTES = 64 * 1024;

/** Node's own bounds hold for floods of resets, settings, pings and continued headers. */
const SESSION_OPTIONS: ServerSessionOptions = {
  // More than an instance on Cloud Run is given at a time: of a client that resets a request at the very limit and makes
  // another, Node refuses the other.
  settings: { maxConcurrentStreams: 128, initialWindowSize: STREAM_WINDOW_BYTES },
  // MB. Node refuses new requests when what waits for slow readers of the others is more.
  maxSessionMemory: 32,
};

/** About one connection, not about the message: each protocol has its own (RFC 9113, section 8.2.2). */
const CONNECTION_HEADERS = new Set([
  'connection',
  'http2-settings',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

export interface Http2FrontOptions {
  /** A connection, or a request on it, on which nothing moves for so long is given up. */
  idleTimeoutMs: number;
  /** A client that has its answer may go on sending for so long. Some take it badly to be stopped in the middle. */
  lingerMs?: number;
}

export interface Http2Front {
  /** Asks the clients to make no more requests here. Those that run go on. */
  close(): void;
  /** Breaks off what still runs. */
  destroy(): void;
}

/**
 * Lets an HTTP/1 server take HTTP/2 without TLS on the same port, for clients that begin with it, as Cloud Run does.
 * Each HTTP/2 stream becomes a request of its own over a connection inside the process: the server is the same, and
 * so is everything it does, limits and timeouts included. Bodies are passed on as they come, at the pace of whoever
 * reads them.
 */
export function addHttp2Front(server: Server, options: Http2FrontOptions): Http2Front {
  const serveHttp1 = server.listeners('connection').map((listener) => listener.bind(server));
  const serve = (connection: Duplex) => {
    for (const listener of serveHttp1) listener(connection);
  };
  const sockets = new Set<Socket>();
  const sessions = new Set<ServerHttp2Session>();
  const undecided = new Set<Socket>();

  server.removeAllListeners('connection').on('connection', (socket: Socket) => {
    sockets.add(socket);
    undecided.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
      undecided.delete(socket);
    });
    readPreface(socket, (isHttp2) => {
      undecided.delete(socket);
      if (isHttp2) {
        const session = serveHttp2(socket, serve, options);
        sessions.add(session);
        socket.once('close', () => sessions.delete(session));
      } else {
        sockets.delete(socket);
        serve(socket);
        socket.resume();
      }
    });
  });
  return {
    close() {
      for (const socket of undecided) socket.destroy();
      for (const session of sessions) session.close();
    },
    destroy() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Decides at the first byte that differs, and puts everything back that it has read. */
function readPreface(socket: Socket, decide: (isHttp2: boolean) => void): void {
  let head: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), PREFACE_TIMEOUT_MS);
  const ignore = () => {};
  const end = (isHttp2: boolean) => {
    stop();
    socket.pause();
    if (head.length > 0) socket.unshift(head);
    decide(isHttp2);
  };
  const read = (piece: Buffer) => {
    head = head.length === 0 ? piece : Buffer.concat([head, piece]);
    const length = Math.min(head.length, PREFACE.length);
    const isAlike = head.subarray(0, length).equals(PREFACE.subarray(0, length));
    if (!isAlike || length === PREFACE.length) end(isAlike);
  };
  // What is no more than a part of the preface is a request of neither.
  const giveUp = () => socket.destroy();
  const stop = () => {
    clearTimeout(timer);
    socket.off('data', read).off('end', giveUp).off('close', stop);
    // Until whoever takes the socket has listeners of its own.
    process.nextTick(() => socket.off('error', ignore));
  };
  socket.on('data', read).on('end', giveUp).on('close', stop).on('error', ignore);
}

function serveHttp2(
  socket: Socket,
  serve: (connection: Duplex) => void,
  { idleTimeoutMs, lingerMs = 10_000 }: Http2FrontOptions,
): ServerHttp2Session {
  // HTTP/1 lets a client end its side before it has the answer. An HTTP/2 client that does is gone.
  socket.allowHalfOpen = false;
  const session = performServerHandshake(socket, SESSION_OPTIONS);
  session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  session.on('error', () => {});
  session.setTimeout(idleTimeoutMs, () => session.destroy());
  session.on('stream', (stream, headers) => {
    stream.setTimeout(idleTimeoutMs, () => stream.close(constants.NGHTTP2_CANCEL));
    serveStream(stream, headers, serve, lingerMs);
  });
  // A session that has ended waits for its client to read and to close. One that does neither is not waited for.
  let wasOver = false;
  const sweep = setInterval(() => {
    if (wasOver) socket.destroy();
    wasOver = session.destroyed;
  }, idleTimeoutMs);
  socket.once('close', () => clearInterval(sweep));
  return session;
}

function serveStream(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  serve: (connection: Duplex) => void,
  lingerMs: number,
): void {
  const [outside, inside] = duplexPair();
  // With an error a side takes what it has sent before with it, such as the answer to headers that are too long.
  const destroyInside = inside.destroy.bind(inside);
  inside.destroy = () => destroyInside();
  // Broken connections have both errors and `close`, which is what is acted upon.
  stream.on('error', () => {});
  let request: ReturnType<typeof requestHttp1>;
  try {
    request = requestHttp1({
      createConnection: () => outside,
      method: headers[':method'],
      path: headers[':path'],
      headers: toHttp1(stream, headers),
      setHost: false,
    });
  } catch {
    // A header or an address that HTTP/1 has no way to say.
    stream.respond({ ':status': 400 }, { endStream: true });
    stream.close();
    return;
  }
  let isAnswered = false;
  const finish = () => {
    isAnswered = true;
    // What the server inside still has to do about its answer is no reason to call it broken off.
    setImmediate(() => inside.destroy());
    if (stream.readableEnded || stream.closed) return;
    stream.unpipe(request).resume();
    const timer = setTimeout(() => stream.close(constants.NGHTTP2_NO_ERROR), lingerMs);
    stream.once('close', () => clearTimeout(timer));
  };
  stream.once('close', () => {
    request.destroy();
    if (!isAnswered) inside.destroy();
  });
  request.on('error', () => {
    if (!isAnswered) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  });
  request.on('information', ({ statusCode }: { statusCode: number }) => {
    if (!stream.headersSent && !stream.closed) stream.additionalHeaders({ ':status': statusCode });
  });
  request.once('response', (response) => {
    if (!stream.closed) answer(stream, response, finish);
  });
  if (stream.endAfterHeaders) {
    request.end();
    stream.resume();
  } else {
    // The server may refuse it before the body begins.
    request.flushHeaders();
    stream.pipe(request, { end: false });
    // One that is reset ends too, and must not look whole.
    stream.once('end', () => {
      if (!stream.closed) request.end();
    });
  }
  serve(inside);
}

function answer(stream: ServerHttp2Stream, response: IncomingMessage, finish: () => void): void {
  const headers = Object.entries(response.headers).filter(([name]) => !CONNECTION_HEADERS.has(name));
  stream.respond({ ...Object.fromEntries(headers), ':status': response.statusCode });
  if (stream.writableEnded) {
    // Answers that have no body.
    response.resume();
    finish();
    return;
  }
  // Half an answer must not look like a whole one: the stream is reset.
  pipeline(response, inPieces, stream, (error) => {
    if (error) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    else finish();
  });
}

/** An answer that is one long text comes in one piece. */
async function* inPieces(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const piece of body) {
    for (let at = 0; at < piece.length; at += PIECE_BYTES) yield piece.subarray(at, at + PIECE_BYTES);
  }
}

function toHttp1(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Record<string, string | string[]> {
  const http1: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined && !name.startsWith(':') && !CONNECTION_HEADERS.has(name)) http1[name] = value;
  }
  if (headers[':authority'] !== undefined) http1.host = headers[':authority'];
  // Whatever the method is: without it the body would be read as another request.
  if (!stream.endAfterHeaders && http1['content-length'] === undefined) {
    http1['transfer-encoding'] = 'chunked';
  }
  return http1;
}
