import { addAbortSignal, type Readable } from 'node:stream';
import { backoffMs } from '../queue/backoff.ts';
import { streamPieces } from '../stream-pieces.ts';
import { broken, CloudStorageError, type GcsApi, pause } from './gcs-api.ts';
import { Crc32c } from './gcs-crc32c.ts';

interface Range {
  start: number;
  end?: number | undefined;
}

interface Opened {
  response: Response;
  stop: AbortController;
  generation: string;
  /** Where this answer must end, and the whole object does. */
  endsAt: number;
  sizeBytes: number;
  crc32c: string | undefined;
}

/**
 * The bytes of one generation of an object: a connection that breaks or stalls is taken up again where it ended.
 * A whole object is checked against its checksum. `generation`: which one, if not the newest.
 * @returns undefined when there is no object, or not that generation of it
 */
export async function openDownload(
  api: GcsApi,
  key: string,
  { start, end, generation, signal }: Range & { generation?: string; signal?: AbortSignal | undefined },
): Promise<Readable | undefined> {
  const closed = new AbortController();
  const watched = signal === undefined ? closed.signal : AbortSignal.any([closed.signal, signal]);
  const wanted = { start, end, ...(generation === undefined ? {} : { generation }) };
  const first = await open(api, key, wanted, watched);
  if (first === undefined) return undefined;
  const pieces = readPieces(api, key, { start, end }, first, watched);
  const stream = streamPieces(pieces, () => closed.abort());
  return signal === undefined ? stream : addAbortSignal(signal, stream);
}

async function* readPieces(
  api: GcsApi,
  key: string,
  range: Range,
  first: Opened,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const { attemptMs, totalMs, backoff } = api.patience;
  const crc = new Crc32c();
  let at = range.start;
  let opened = first;
  let failures = 0;
  let failingSinceMs = 0;
  for (let next = readerOf(opened, attemptMs); ; ) {
    let piece: Uint8Array | undefined;
    try {
      piece = await next();
      if (piece === undefined && at < opened.endsAt)
        throw new CloudStorageError('the answer ended too early');
    } catch (error) {
      signal.throwIfAborted();
      opened.stop.abort();
      if (failures === 0) failingSinceMs = performance.now();
      else if (performance.now() - failingSinceMs > totalMs) throw error;
      else await pause(backoffMs(failures, backoff), signal);
      failures++;
      opened = await openAgain(api, key, { start: at, end: range.end }, opened, error, signal);
      next = readerOf(opened, attemptMs);
      continue;
    }
    if (piece === undefined) break;
    at += piece.length;
    crc.update(piece);
    failures = 0;
    yield Buffer.from(piece.buffer, piece.byteOffset, piece.length);
  }
  const isWhole = range.start === 0 && at === opened.sizeBytes;
  if (isWhole && opened.crc32c !== undefined && opened.crc32c !== String(crc)) {
    throw new CloudStorageError(`${key} did not arrive as it is stored`);
  }
}

async function openAgain(
  api: GcsApi,
  key: string,
  range: Range,
  { generation }: Opened,
  cause: unknown,
  signal: AbortSignal,
): Promise<Opened> {
  const opened = await open(api, key, { ...range, generation }, signal);
  if (opened !== undefined) return opened;
  throw new CloudStorageError(`${key} was replaced or deleted while it was read`, { status: 404, cause });
}

async function open(
  api: GcsApi,
  key: string,
  { start, end, generation }: Range & { generation?: string },
  signal: AbortSignal,
): Promise<Opened | undefined> {
  const url = api.objectUrl(key, { alt: 'media', ...(generation === undefined ? {} : { generation }) });
  const isWhole = start === 0 && end === undefined;
  const headers: Record<string, string> = isWhole ? {} : { range: `bytes=${start}-${end ?? ''}` };
  return api.retry(
    async (attempt) => {
      // The time limit of the try ends with the headers; the stream is stopped by itself.
      const stop = new AbortController();
      const both = AbortSignal.any([attempt, stop.signal]);
      const response = await api.request({ method: 'GET', url, headers }, [200, 206, 404, 416], both);
      if (response.status === 404 || response.status === 416) await response.body?.cancel();
      return response.status === 404 ? undefined : describe(response, start, stop);
    },
    { signal },
  );
}

function describe(response: Response, start: number, stop: AbortController): Opened {
  const { headers, status } = response;
  const opened = {
    response,
    stop,
    generation: headers.get('x-goog-generation') ?? '',
    crc32c: /crc32c=([^,\s]+)/.exec(headers.get('x-goog-hash') ?? '')?.[1],
  };
  // The range begins where the object ends, or later: there is nothing to read.
  if (status === 416) return { ...opened, endsAt: start, sizeBytes: start, crc32c: undefined };
  const [, last, total] = /^bytes \d+-(\d+)\/(\d+)$/.exec(headers.get('content-range') ?? '') ?? [];
  if (last !== undefined) return { ...opened, endsAt: Number(last) + 1, sizeBytes: Number(total) };
  const size = headers.get('x-goog-stored-content-length') ?? headers.get('content-length');
  if (status === 206 || size === null) throw new CloudStorageError('an answer did not say how long it is');
  return { ...opened, endsAt: Number(size), sizeBytes: Number(size) };
}

/** The next piece, or undefined at the end. Fails when nothing comes for a while. */
function readerOf({ response, stop }: Opened, idleMs: number): () => Promise<Uint8Array | undefined> {
  if (response.status === 416 || response.body === null) return async () => undefined;
  const reader = response.body.getReader();
  return async () => {
    const timer = setTimeout(() => stop.abort(new Error(`no byte within ${idleMs} ms`)), idleMs);
    try {
      return (await reader.read()).value;
    } catch (error) {
      throw broken(error);
    } finally {
      clearTimeout(timer);
    }
  };
}
