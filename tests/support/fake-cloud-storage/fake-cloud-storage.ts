import { once } from 'node:events';
import { createReadStream, openSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ApiError, invalid, noSuchObject, refusal } from './api-error.ts';
import { Broken, corrupted, type Fault, Faults, faultyBody, type Operation } from './faults.ts';
import { readMultipart } from './multipart.ts';
import { checkHashes, type ObjectResource, ObjectStore, receive } from './object-store.ts';
import { selectFields } from './partial-response.ts';
import { checkPreconditions } from './preconditions.ts';
import { UploadSessions } from './upload-sessions.ts';

/** One request that came, in the order of their answers. */
export interface LoggedRequest {
  operation: Operation;
  method: string;
  name: string;
  query: Record<string, string>;
  contentRange?: string;
  /** null when there was no answer. */
  status: number | null;
  fault?: Fault['kind'];
}

export interface FakeCloudStorageOptions {
  /** Everything is in it, and another fake on the same folder goes on with it. */
  folder: string;
  /** Default: any free one. */
  port?: number;
  /** The clock behind `Date`, `updated` and `timeCreated`. */
  now?: () => number;
  /** That exist from the start. */
  buckets?: string[];
  faults?: Fault[];
  /** One write per second and object, then 429. */
  limitsRate?: boolean;
  /** A rewrite of more takes several calls, as one between places or classes of storage does. */
  bytesPerRewrite?: number;
  /** A page of a list may always be shorter than was asked for. */
  maxPageSize?: number;
}

export interface FakeCloudStorage {
  url: string;
  requests: LoggedRequest[];
  inject(fault: Fault): void;
  clearFaults(): void;
  /** Adds to the clock, from now on. */
  setClockOffset(offsetMs: number): void;
  /** Uploads that have neither ended nor been canceled, and files of requests that left theirs behind. */
  leftovers(): string[];
  close(): Promise<void>;
}

const KEPT_REQUESTS = 20_000;

/**
 * Cloud Storage's JSON API, as far as its Node client and this project speak it. Its bytes are on the disk, so big
 * objects take no memory. Other processes reach it by its address, and its controls below `/_fake/`.
 */
export async function startFakeCloudStorage(options: FakeCloudStorageOptions): Promise<FakeCloudStorage> {
  let offsetMs = 0;
  const clock = options.now ?? Date.now;
  const now = () => clock() + offsetMs;
  const store = new ObjectStore({ folder: options.folder, now, limitsRate: options.limitsRate ?? false });
  const bytesPerRewrite = options.bytesPerRewrite ?? Number.POSITIVE_INFINITY;
  const maxPageSize = options.maxPageSize ?? 1_000;
  for (const bucket of options.buckets ?? []) store.createBucket(bucket);
  const sessions = new UploadSessions(store, options.folder, now);
  const faults = new Faults();
  for (const fault of options.faults ?? []) faults.inject(fault);
  const requests: LoggedRequest[] = [];

  const controls: Controls = {
    requests,
    inject: (fault) => faults.inject(fault),
    clearFaults: () => faults.clear(),
    setClockOffset: (ms) => {
      offsetMs = ms;
    },
    leftovers: () => [...sessions.open(), ...store.temporaryFiles()],
  };

  const server = createServer({ requestTimeout: 0 }, (req, res) => {
    const { socket } = req; // Gone from the request once it is destroyed.
    serve(req, res).catch(() => socket.destroy());
  });
  server.listen(options.port ?? 0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, ...controls, close: () => closeServer(server) };

  async function serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { socket } = req;
    const target = new URL(req.url ?? '/', `http://${req.headers.host}`);
    res.sendDate = false;
    res.setHeader('date', new Date(now()).toUTCString());
    if (target.pathname.startsWith('/_fake/')) {
      sendJson(res, 200, await control(controls, target.pathname, req));
      return;
    }
    allowOrigin(res, sessions.find(target.searchParams.get('upload_id') ?? '')?.origin);
    if (req.method === 'OPTIONS') {
      res.end();
      return;
    }
    const request = parseRequest(req, target, sessions);
    if (request === undefined) {
      req.resume();
      sendError(res, new ApiError(404, 'notFound', 'Not Found'), false);
      return;
    }
    const fault = faults.take(request.operation, request.name);
    const body = faultyBody(req as AsyncIterable<Buffer>, fault);
    const log = (status: number | null): LoggedRequest => {
      const { operation, name, query } = request;
      const contentRange = req.headers['content-range'];
      const entry: LoggedRequest = {
        operation,
        method: req.method ?? '',
        name,
        query: Object.fromEntries(query),
        ...(contentRange === undefined ? {} : { contentRange }),
        status,
        ...(fault === undefined ? {} : { fault: fault.kind }),
      };
      requests.push(entry);
      if (requests.length > KEPT_REQUESTS) requests.splice(0, KEPT_REQUESTS / 2);
      return entry;
    };
    try {
      if (fault?.kind === 'status') throw refusal(fault.status ?? 503);
      if (fault?.kind === 'stall') {
        req.resume(); // Who does not read does not see the connection end.
        await once(socket, 'close');
        throw new Broken();
      }
      const answer = await HANDLERS[request.operation]({
        ...request,
        body,
        fault,
        store,
        sessions,
        maxPageSize,
        bytesPerRewrite,
      });
      await drain(body);
      if (fault?.kind === 'lose-reply') throw new Broken();
      // Logged before it can have been read.
      const entry = log(null);
      await answer(res);
      if (!socket.destroyed) entry.status = res.statusCode;
    } catch (error) {
      if (!(error instanceof ApiError)) {
        log(null);
        throw error;
      }
      await drain(body);
      log(error.status);
      sendError(res, error, request.operation === 'download');
    }
  }
}

type Controls = Omit<FakeCloudStorage, 'url' | 'close'>;
type Answer = (res: ServerResponse) => Promise<void> | void;

interface ParsedRequest {
  operation: Operation;
  bucket: string;
  name: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  /** `http://host:port` as the client wrote it. */
  origin: string;
  destination?: { bucket: string; name: string };
}

type Handler = (
  request: ParsedRequest & {
    body: AsyncIterable<Buffer>;
    fault: Fault | undefined;
    store: ObjectStore;
    sessions: UploadSessions;
    maxPageSize: number;
    bytesPerRewrite: number;
  },
) => Promise<Answer>;

const UPLOAD = /^\/upload\/storage\/v1\/b\/([^/]+)\/o$/;
const COPY = /^\/storage\/v1\/b\/([^/]+)\/o\/([^/]+)\/(?:rewriteTo|copyTo)\/b\/([^/]+)\/o\/([^/]+)$/;
const OBJECT = /^\/(?:download\/)?storage\/v1\/b\/([^/]+)\/o\/([^/]+)$/;
const OBJECTS = /^\/storage\/v1\/b\/([^/]+)\/o$/;
const BUCKET = /^\/storage\/v1\/b(?:\/([^/]+))?$/;

function parseRequest(
  { method = '', headers }: IncomingMessage,
  { pathname, searchParams: query, origin }: URL,
  sessions: UploadSessions,
): ParsedRequest | undefined {
  const match = (pattern: RegExp) =>
    pattern
      .exec(pathname)
      ?.slice(1)
      .map((part) => decodeURIComponent(part ?? ''));
  const parsed = (operation: Operation, [bucket = '', name = '']: string[]): ParsedRequest => ({
    operation,
    bucket,
    name,
    query,
    headers,
    origin,
  });
  const upload = match(UPLOAD);
  if (upload !== undefined) {
    const id = query.get('upload_id');
    if (id === null) {
      const operation = query.get('uploadType') === 'resumable' ? 'start-session' : 'insert';
      return method === 'POST' ? parsed(operation, [upload[0] ?? '', query.get('name') ?? '']) : undefined;
    }
    const name = sessions.find(id)?.name ?? '';
    if (method === 'PUT' || method === 'POST') return parsed('put-session', [upload[0] ?? '', name]);
    return method === 'DELETE' ? parsed('cancel-session', [upload[0] ?? '', name]) : undefined;
  }
  const copy = match(COPY);
  if (copy !== undefined && method === 'POST') {
    return { ...parsed('copy', copy), destination: { bucket: copy[2] ?? '', name: copy[3] ?? '' } };
  }
  const object = match(OBJECT);
  if (object !== undefined) {
    if (method === 'GET') return parsed(query.get('alt') === 'media' ? 'download' : 'get', object);
    if (method === 'PATCH') return parsed('patch', object);
    return method === 'DELETE' ? parsed('delete', object) : undefined;
  }
  const objects = match(OBJECTS);
  if (objects !== undefined) return method === 'GET' ? parsed('list', objects) : undefined;
  const bucket = match(BUCKET);
  if (bucket !== undefined) {
    return (method === 'GET') === (bucket[0] !== '') ? parsed('bucket', bucket) : undefined;
  }
  return undefined;
}

const HANDLERS: Record<Operation, Handler> = {
  async insert({ store, bucket, query, headers, body, fault }) {
    requireBucket(store, bucket);
    const contentType = headers['content-type'] ?? 'application/octet-stream';
    const { metadata, data, ...part } =
      query.get('uploadType') === 'multipart'
        ? await readMultipart(body, contentType)
        : { metadata: {}, data: body, contentType };
    const name = String(metadata.name ?? query.get('name') ?? '');
    // Before the bytes have come too: a big body need not be sent in vain.
    checkPreconditions(query, store.find(bucket, name), { isRead: false });
    const isCorrupt = fault?.kind === 'corrupt';
    const received = await receive(store.temporaryFile(), isCorrupt ? corrupted(data) : data);
    try {
      if (!isCorrupt) {
        checkHashes(received, metadata);
        checkHashes(received, hashesIn(headers));
      }
      return json(store.insert(bucket, name, { ...part, ...metadata }, received, query), query);
    } finally {
      rmSync(received.file, { force: true });
    }
  },

  async 'start-session'({ store, sessions, bucket, query, headers, body, origin }) {
    requireBucket(store, bucket);
    const metadata = await readJsonBody(body);
    const name = String(query.get('name') ?? metadata.name ?? '');
    if (name === '') throw new ApiError(400, 'required', 'Required');
    checkPreconditions(query, store.find(bucket, name), { isRead: false });
    const size = headers['x-upload-content-length'];
    const contentType = headers['x-upload-content-type'];
    const id = sessions.start({
      bucket,
      name,
      query: String(query),
      given: { ...(contentType === undefined ? {} : { contentType }), ...metadata },
      sizeBytes: size === undefined ? null : Number(size),
      origin: headers.origin ?? null,
    });
    return (res) => {
      const location = `${origin}/upload/storage/v1/b/${encodeURIComponent(bucket)}/o?uploadType=resumable&upload_id=${id}`;
      res.setHeader('location', location).setHeader('x-guploader-uploadid', id).end();
    };
  },

  async 'put-session'({ sessions, query, headers, body, fault }) {
    const id = query.get('upload_id') ?? '';
    const isCorrupt = fault?.kind === 'corrupt';
    const data = isCorrupt ? corrupted(body) : body;
    const answer = await sessions.put(id, headers['content-range'], data, isCorrupt ? {} : hashesIn(headers));
    if ('object' in answer) return json(answer.object, new URLSearchParams(sessions.find(id)?.query));
    return (res) => {
      res.statusCode = 308;
      if (answer.storedBytes > 0) res.setHeader('range', `bytes=0-${answer.storedBytes - 1}`);
      res.end();
    };
  },

  async 'cancel-session'({ sessions, query }) {
    sessions.cancel(query.get('upload_id') ?? '');
    return (res) => {
      res.statusCode = 499;
      res.end();
    };
  },

  async get({ store, bucket, name, query }) {
    return json(store.get(bucket, name, query), query);
  },

  async download({ store, bucket, name, query, headers, fault }) {
    return async (res) => {
      const object = store.get(bucket, name, query);
      const size = Number(object.size);
      const range = headers.range === undefined ? undefined : parseRange(headers.range, size);
      if (range === 'unsatisfiable') {
        res.writeHead(416, {
          'content-range': `bytes */${size}`,
          'content-type': 'text/html; charset=UTF-8',
        });
        res.end('The requested range cannot be satisfied.');
        return;
      }
      const { start, end } = range ?? { start: 0, end: size - 1 };
      const wanted = end - start + 1;
      const isTruncated = fault?.kind === 'truncate';
      const sent = isTruncated || fault?.kind === 'break' ? Math.min(wanted, fault.afterBytes ?? 0) : wanted;
      const bytes = sent === 0 ? Readable.from([]) : openBytes(store, object, start, start + sent - 1);
      res.writeHead(range === undefined ? 200 : 206, {
        'content-type': object.contentType,
        'content-length': isTruncated ? sent : wanted,
        ...(range === undefined ? {} : { 'content-range': `bytes ${start}-${end}/${size}` }),
        'x-goog-generation': object.generation,
        'x-goog-metageneration': object.metageneration,
        'x-goog-hash': `crc32c=${object.crc32c},md5=${object.md5Hash}`,
        'x-goog-storage-class': String(object.storageClass),
        'x-goog-stored-content-encoding': String(object.contentEncoding ?? 'identity'),
        'x-goog-stored-content-length': object.size,
        'last-modified': new Date(object.updated).toUTCString(),
        'cache-control': String(object.cacheControl ?? 'private, max-age=0, must-revalidate'),
        etag: String(object.etag),
        'accept-ranges': 'bytes',
      });
      res.flushHeaders();
      const isBroken = sent < wanted && !isTruncated;
      await pipeline(fault?.kind === 'corrupt' ? corrupted(bytes) : bytes, res, { end: !isBroken });
      if (isBroken) {
        await new Promise((resolve) => setTimeout(resolve, 20)); // Until what was sent is on its way.
        throw new Broken();
      }
    };
  },

  async list({ store, bucket, query, maxPageSize }) {
    requireBucket(store, bucket);
    const prefix = query.get('prefix') ?? '';
    const delimiter = query.get('delimiter');
    const limit = Math.min(maxPageSize, Number(query.get('maxResults')) || maxPageSize);
    const token = query.get('pageToken');
    const after = token === null ? '' : Buffer.from(token, 'base64url').toString('utf8');
    const [from, to] = [query.get('startOffset') ?? '', query.get('endOffset')];
    const items: unknown[] = [];
    const prefixes = new Set<string>();
    let last: string | undefined;
    let hasMore = false;
    for (const name of store.names(bucket, prefix)) {
      if (
        isBefore(name, from) ||
        (to !== null && !isBefore(name, to)) ||
        (after !== '' && !isBefore(after, name))
      )
        continue;
      const cut = delimiter === null ? -1 : name.indexOf(delimiter, prefix.length);
      const folder = cut < 0 ? undefined : name.slice(0, cut + (delimiter ?? '').length);
      if (folder !== undefined && prefixes.has(folder)) {
        last = name;
        continue;
      }
      if (items.length + prefixes.size === limit) {
        hasMore = true;
        break;
      }
      if (folder === undefined) items.push(store.find(bucket, name));
      else prefixes.add(folder);
      last = name;
    }
    return json(
      {
        kind: 'storage#objects',
        ...(items.length > 0 ? { items } : {}),
        ...(prefixes.size > 0 ? { prefixes: [...prefixes] } : {}),
        ...(hasMore ? { nextPageToken: Buffer.from(last ?? '').toString('base64url') } : {}),
      },
      query,
    );
  },

  async patch({ store, bucket, name, query, body }) {
    return json(store.patch(bucket, name, await readJsonBody(body), query), query);
  },

  async delete({ store, bucket, name, query, body }) {
    await drain(body); // A delete that comes late comes late as a whole.
    store.delete(bucket, name, query);
    return (res) => {
      res.statusCode = 204;
      res.end();
    };
  },

  async copy({ store, bucket, name, destination, query, body, bytesPerRewrite }) {
    const given = await readJsonBody(body);
    const from = store.find(bucket, name);
    const generation = query.get('sourceGeneration');
    if (from === undefined || (generation !== null && generation !== from.generation))
      throw noSuchObject(bucket, name);
    const sourceQuery = new URLSearchParams();
    for (const [key, value] of query) {
      if (/^ifSource/.test(key)) sourceQuery.set(`if${key.slice('ifSource'.length)}`, value);
    }
    checkPreconditions(sourceQuery, from, { isRead: false });
    if (destination === undefined) throw invalid('Required');
    const before = store.find(destination.bucket, destination.name);
    checkPreconditions(query, before, { isRead: false });
    const kind = 'storage#rewriteResponse';
    const { size, generation: source } = from;
    const what = JSON.stringify([source, destination]);
    const rewritten = bytesPerRewrite + readRewriteToken(query.get('rewriteToken'), what);
    if (rewritten < Number(size)) {
      const rewriteToken = Buffer.from(JSON.stringify([rewritten, what])).toString('base64url');
      const answer = {
        kind,
        totalBytesRewritten: String(rewritten),
        objectSize: size,
        done: false,
        rewriteToken,
      };
      return json(answer, query);
    }
    const resource = store.copy(from, destination.bucket, destination.name, given, query);
    return json({ kind, totalBytesRewritten: size, objectSize: size, done: true, resource }, query);
  },

  async bucket({ store, bucket, query, body }) {
    const name = bucket === '' ? String((await readJsonBody(body)).name) : bucket;
    if (bucket === '') store.createBucket(name);
    else requireBucket(store, name);
    return json({ kind: 'storage#bucket', id: name, name, location: 'EU', storageClass: 'STANDARD' }, query);
  },
};

/** How far the rewrite was. A token serves for nothing but the rewrite that it was given out for. */
function readRewriteToken(token: string | null, what: string): number {
  if (token === null) return 0;
  try {
    const [rewritten, tokenFor] = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'));
    if (tokenFor === what) return Number(rewritten);
  } catch {}
  throw invalid('The rewrite token is invalid.');
}

/** What a browser asks, and what it lets the page see of an answer. */
function allowOrigin(res: ServerResponse, origin: string | null | undefined): void {
  if (typeof origin !== 'string') return;
  res.setHeader('access-control-allow-origin', origin);
  res.setHeader('access-control-allow-methods', 'GET, POST, PUT, DELETE, OPTIONS');
  res.setHeader('access-control-allow-headers', 'content-type, content-range, x-goog-hash');
  res.setHeader('access-control-expose-headers', 'Range, X-GUploader-UploadID');
}

/** Opened at once: the bytes of this generation stay readable whatever happens to its name. */
function openBytes(store: ObjectStore, { generation }: ObjectResource, start: number, end: number): Readable {
  return createReadStream('', { fd: openSync(store.dataFile(generation), 'r'), start, end });
}

function requireBucket(store: ObjectStore, bucket: string): void {
  if (!store.hasBucket(bucket)) throw new ApiError(404, 'notFound', 'The specified bucket does not exist.');
}

/** `X-Goog-Hash: crc32c=…,md5=…` */
function hashesIn(headers: IncomingMessage['headers']): { crc32c?: string; md5Hash?: string } {
  const header = [headers['x-goog-hash']].flat().join(',');
  const [crc32c, md5Hash] = [/crc32c=([^,\s]+)/, /md5=([^,\s]+)/].map((pattern) => pattern.exec(header)?.[1]);
  return { ...(crc32c === undefined ? {} : { crc32c }), ...(md5Hash === undefined ? {} : { md5Hash }) };
}

/** Undefined for a header that is not understood: then it does not count. */
function parseRange(
  header: string,
  size: number,
): { start: number; end: number } | 'unsatisfiable' | undefined {
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(header) ?? [];
  if (first === '' && last === '') return undefined;
  if (first === '')
    return size === 0 || Number(last) === 0
      ? 'unsatisfiable'
      : { start: Math.max(0, size - Number(last)), end: size - 1 };
  const start = Number(first);
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1);
  if (start >= size) return 'unsatisfiable';
  return end < start ? undefined : { start, end };
}

function isBefore(a: string, b: string): boolean {
  return Buffer.compare(Buffer.from(a), Buffer.from(b)) < 0;
}

/** What a handler leaves of a body must not be taken for the next request on the connection. */
async function drain(body: AsyncIterable<Buffer>): Promise<void> {
  for await (const _ of body);
}

async function readJsonBody(body: AsyncIterable<Buffer>): Promise<Record<string, unknown>> {
  const pieces: Buffer[] = [];
  for await (const piece of body) pieces.push(piece);
  const text = Buffer.concat(pieces).toString('utf8');
  try {
    return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
  } catch {
    throw new ApiError(400, 'parseError', 'Parse Error');
  }
}

function json(value: unknown, query: URLSearchParams): Answer {
  const fields = query.get('fields');
  return (res) => sendJson(res, 200, fields === null ? value : selectFields(value, fields));
}

function sendJson(res: ServerResponse, status: number, value: unknown): void {
  res.writeHead(status, { 'content-type': 'application/json; charset=UTF-8' });
  res.end(JSON.stringify(value));
}

/** To a request for bytes Cloud Storage says what is wrong in plain text. */
function sendError(res: ServerResponse, error: ApiError, isPlain: boolean): void {
  if (error.status === 304) {
    res.writeHead(304).end();
  } else if (isPlain) {
    res.writeHead(error.status, { 'content-type': 'text/html; charset=UTF-8' }).end(error.message);
  } else {
    sendJson(res, error.status, error);
  }
}

async function control(controls: Controls, path: string, req: IncomingMessage): Promise<unknown> {
  const given = await readJsonBody(req as AsyncIterable<Buffer>);
  switch (`${req.method} ${path}`) {
    case 'POST /_fake/faults':
      controls.inject(given as unknown as Fault);
      return {};
    case 'DELETE /_fake/faults':
      controls.clearFaults();
      return {};
    case 'PUT /_fake/clock':
      controls.setClockOffset(Number(given.offsetMs));
      return {};
    case 'GET /_fake/requests':
      return controls.requests;
    case 'GET /_fake/leftovers':
      return controls.leftovers();
    default:
      return { error: 'no such control' };
  }
}

async function closeServer(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}
