import type { LookupAddress } from 'node:dns';
import type { IncomingMessage } from 'node:http';
import { type RequestOptions, request as requestHttps } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import type { Readable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import {
  checkLink,
  isAllowedAddress,
  linkHost,
  type Networks,
  type Resolve,
  resolveLink,
} from '../core/link-guard.ts';
import { mediaTooLarge } from '../core/media-too-large.ts';
import { ServiceError } from '../core/problem.ts';
import { streamPieces } from '../core/stream-pieces.ts';
import { unlessAborted } from '../core/unless-aborted.ts';
import { answeredName, answeredType, asUtf8, isSameContent, strongValidator } from './link-answer.ts';
import type { RemoteMedia } from './remote-media.ts';

/** How long an origin may take. A test shortens it. */
export interface LinkLimits {
  /** To find the name, connect and agree on a secure connection. */
  connectMs: number;
  /** From then on until all headers are there. */
  headersMs: number;
  /** So long without bytes worth the name, and the connection counts as broken. */
  idleMs: number;
  /** Less than this within `idleMs` is as good as nothing: a recording plays faster. */
  minBytesPerIdle: number;
}

const LIMITS: LinkLimits = {
  connectMs: 15_000,
  headersMs: 60_000,
  idleMs: 60_000,
  minBytesPerIdle: 30 * 1024,
};

const MAX_REDIRECTS = 5;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
/** Answers that may be another one when asked again. */
const PASSING = new Set([408, 425, 429]);
const MAX_HEADER_BYTES = 32 * 1024;

export interface LinkAccess {
  networks: Networks;
  maxBytes: number;
  signal: AbortSignal;
  limits?: Partial<LinkLimits>;
  /** Trusted besides the usual ones. */
  ca?: string;
  resolve?: Resolve;
}

interface Asked {
  startAt: number;
  /** Of the content to go on with. Without it, everything is asked for. */
  validator?: string | null;
}

/**
 * Opens what a user's link leads to, by way of the guard at every step. Sends no cookies and no credentials.
 * @throws {ServiceError}
 */
export async function openLink(
  link: string,
  { startAt, validator = null, ...access }: Asked & LinkAccess,
): Promise<RemoteMedia> {
  if (startAt > 0 && validator !== null) {
    const continued = await open(link, access, { startAt, validator });
    if (continued !== undefined) return continued;
  }
  const media = await open(link, access, undefined);
  if (media === undefined) throw failed(`${hostOf(link)} sends only a part of the file.`);
  return media;
}

/** @returns undefined when the answer is of no use because of the range that was asked for, or not asked for */
async function open(
  link: string,
  access: LinkAccess,
  range: { startAt: number; validator: string } | undefined,
): Promise<RemoteMedia | undefined> {
  const first = checkLink(link, access.networks);
  const headers: Record<string, string> = {
    accept: '*/*',
    // What is compressed on the way could be neither counted nor continued.
    'accept-encoding': 'identity',
    'user-agent': 'zeroscribe',
    ...(range === undefined ? {} : { range: `bytes=${range.startAt}-`, 'if-range': range.validator }),
  };
  let url = first;
  for (let redirects = 0; ; redirects++) {
    const response = await send(url, headers, access);
    const { statusCode = 0 } = response;
    try {
      if (!REDIRECTS.has(statusCode)) return receive(response, { first, url, range }, access);
      if (redirects === MAX_REDIRECTS) throw failed(`The link redirects more than ${MAX_REDIRECTS} times.`);
      response.destroy();
      url = redirectTarget(response, first, url, access);
    } catch (error) {
      response.destroy();
      throw error;
    }
  }
}

function redirectTarget({ headers }: IncomingMessage, first: URL, from: URL, { networks }: LinkAccess): URL {
  if (headers.location === undefined) throw failed(`${from.host} redirects without saying where to.`);
  const to = checkLink(asUtf8(headers.location), networks, from);
  // An origin may send us on to another web server, not to whatever else listens there.
  if (to.port !== '' && to.port !== first.port) {
    throw new ServiceError('link-refused', `The link redirects to port ${to.port} of ${to.hostname}.`);
  }
  return to;
}

/** What the answer is, once there is one that is no redirect. */
function receive(
  response: IncomingMessage,
  { first, url, range }: { first: URL; url: URL; range: { startAt: number; validator: string } | undefined },
  { maxBytes, limits, signal }: LinkAccess,
): RemoteMedia | undefined {
  const { headers, statusCode = 0 } = response;
  const part = range === undefined || statusCode !== 206 ? undefined : partOf(response, range);
  if (statusCode === 206 ? part === undefined : range !== undefined && statusCode === 416) {
    response.destroy();
    return undefined;
  }
  if (statusCode !== 200 && statusCode !== 206) throw refusal(response, url);
  if (!isPlain(headers['content-encoding']) || !isPlain(headers['transfer-encoding'], 'chunked')) {
    throw failed(`${url.host} sends the file compressed, although it was asked not to. Upload it instead.`);
  }
  const filename = answeredName(response, first, url);
  const contentType = answeredType(response, url.host, filename);
  const announced = headers['content-length'];
  const sizeBytes = part?.sizeBytes ?? (announced === undefined ? null : Number(announced));
  if (sizeBytes !== null && sizeBytes > maxBytes) throw mediaTooLarge(maxBytes);
  const startsAt = part?.startsAt ?? 0;
  return {
    body: bodyOf(response, url, { startsAt, sizeBytes, maxBytes, limits: { ...LIMITS, ...limits }, signal }),
    sizeBytes,
    validator: part === undefined ? strongValidator(response) : (range?.validator ?? null),
    contentType,
    filename,
    startsAt,
  };
}

/** The part that the answer is, when it is the one that was asked for. */
function partOf(
  response: IncomingMessage,
  { startAt, validator }: { startAt: number; validator: string },
): { startsAt: number; sizeBytes: number } | undefined {
  const [, start, size] = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers['content-range'] ?? '') ?? [];
  if (Number(start) !== startAt || !isSameContent(response, validator)) return undefined;
  return { startsAt: startAt, sizeBytes: Number(size) };
}

function isPlain(encoding: string | undefined, plain = 'identity'): boolean {
  return encoding === undefined || encoding.trim().toLowerCase() === plain;
}

/** The bytes, under the limits. A connection that ends too early fails them. */
function bodyOf(
  response: IncomingMessage,
  url: URL,
  limits: {
    startsAt: number;
    sizeBytes: number | null;
    maxBytes: number;
    limits: LinkLimits;
    signal: AbortSignal;
  },
): Readable {
  const { signal } = limits;
  const abort = () => body.destroy(signal.reason as Error);
  const body = streamPieces(pieces(response, url, limits), () => {
    signal.removeEventListener('abort', abort);
    response.destroy();
  });
  body.on('error', () => {});
  signal.addEventListener('abort', abort, { once: true });
  return body;
}

async function* pieces(
  response: IncomingMessage,
  url: URL,
  {
    startsAt,
    sizeBytes,
    maxBytes,
    limits: { idleMs, minBytesPerIdle },
  }: { startsAt: number; sizeBytes: number | null; maxBytes: number; limits: LinkLimits },
): AsyncGenerator<Buffer> {
  const endsAt = sizeBytes ?? maxBytes;
  let at = startsAt;
  // Only the time that we wait for the origin counts, not the time that we need to store.
  let waitedMs = 0;
  let bytesMeanwhile = 0;
  const iterator = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  for (;;) {
    const sinceMs = performance.now();
    const timer = setTimeout(() => response.destroy(tooSlow(url)), idleMs);
    let piece: IteratorResult<Buffer>;
    try {
      piece = await iterator.next();
    } catch (error) {
      throw broken(url, error);
    } finally {
      clearTimeout(timer);
    }
    if (piece.done) return;
    at += piece.value.length;
    if (at > endsAt) {
      if (sizeBytes === null) throw mediaTooLarge(maxBytes);
      throw failed(`${url.host} sends more bytes than it announced.`);
    }
    waitedMs += performance.now() - sinceMs;
    bytesMeanwhile += piece.value.length;
    if (waitedMs > idleMs) {
      if (bytesMeanwhile < minBytesPerIdle) throw tooSlow(url);
      waitedMs = 0;
      bytesMeanwhile = 0;
    }
    yield piece.value;
  }
}

/** One request, up to the headers of its answer. */
async function send(
  url: URL,
  headers: Record<string, string>,
  { networks, resolve, ca, signal, ...access }: LinkAccess,
): Promise<IncomingMessage> {
  const { connectMs, headersMs } = { ...LIMITS, ...access.limits };
  const startMs = performance.now();
  const addresses = await unlessAborted(
    resolveLink(url, networks, resolve),
    AbortSignal.any([signal, AbortSignal.timeout(connectMs)]),
  ).catch((error: unknown) => {
    signal.throwIfAborted();
    throw error instanceof ServiceError ? error : tooSlow(url, error);
  });

  const { promise, resolve: answered, reject } = Promise.withResolvers<IncomingMessage>();
  const options: RequestOptions = {
    // Of its own: a pooled connection could be one that was made for somebody else.
    agent: false,
    hostname: linkHost(url),
    // For the name; what is called has been checked, and the certificate must be the name's.
    lookup: pinned(addresses),
    servername: isIP(linkHost(url)) === 0 ? linkHost(url) : '',
    headers,
    maxHeaderSize: MAX_HEADER_BYTES,
    rejectUnauthorized: true,
    ...(ca === undefined ? {} : { ca }),
  };
  const request = requestHttps(url, options);
  const abort = () => request.destroy(signal.reason as Error);
  signal.addEventListener('abort', abort, { once: true });
  let timer = setTimeout(() => request.destroy(tooSlow(url)), connectMs - (performance.now() - startMs));
  request.once('socket', (socket) => {
    socket.once('connect', () => {
      // Whatever became of the lookup, this is where we are.
      if (isAllowedAddress(socket.remoteAddress ?? '', networks)) return;
      request.destroy(new ServiceError('link-refused', 'The link does not lead to a public address.'));
    });
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      timer = setTimeout(() => request.destroy(tooSlow(url)), headersMs);
    });
  });
  request.once('response', answered);
  // Stays: an error after the answer is the body's, and is told there.
  request.on('error', (error) => reject(broken(url, error, request.socket as TLSSocket | null)));
  // Something that is no answer, such as the offer of another protocol, ends without an error.
  request.once('close', () => reject(broken(url, new Error('the connection ended without an answer'))));
  request.end();
  try {
    return await promise;
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}

function pinned(addresses: LookupAddress[]): LookupFunction {
  return (_host, { all }, callback) => {
    const [first] = addresses;
    if (all) callback(null, addresses);
    else callback(null, first?.address ?? '', first?.family);
  };
}

function refusal({ statusCode = 0, headers }: IncomingMessage, { host }: URL): ServiceError {
  if (statusCode < 500 && !PASSING.has(statusCode)) {
    const hint = statusCode === 401 || statusCode === 403 ? ' If the link has expired, make a new one.' : '';
    return failed(`${host} does not give the file out: it answered ${statusCode}.${hint}`);
  }
  const retryAfter = retryAfterSeconds(headers['retry-after']);
  return new ServiceError('link-unreachable', `${host} answered ${statusCode}.`, {
    extensions: retryAfter === undefined ? {} : { retry_after_seconds: retryAfter },
  });
}

function retryAfterSeconds(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  const seconds = /^\d{1,9}$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1_000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : undefined;
}

/** In our words, with nothing of the link but its host. */
function broken(url: URL, error: unknown, socket?: TLSSocket | null): ServiceError {
  if (error instanceof ServiceError) return error;
  const { code = '' } = error as NodeJS.ErrnoException;
  if (socket?.authorizationError) {
    return failed(`The certificate of ${url.host} is not valid, or not one for this name.`, error);
  }
  if (code === 'HPE_HEADER_OVERFLOW') return failed(`${url.host} sends headers that are too large.`, error);
  if (/^HPE_(?!INVALID_EOF_STATE)|^ERR_SSL_|^EPROTO$/.test(code)) {
    return failed(`${url.host} does not answer as a web server does.`, error);
  }
  return new ServiceError('link-unreachable', `The connection to ${url.host} failed or broke off.`, {
    cause: error,
  });
}

function tooSlow(url: URL, cause?: unknown): ServiceError {
  return new ServiceError('link-unreachable', `${url.host} takes too long to answer.`, { cause });
}

function failed(detail: string, cause?: unknown): ServiceError {
  return new ServiceError('link-failed', detail, { cause });
}

function hostOf(link: string): string {
  return URL.parse(link)?.host ?? 'The host';
}
