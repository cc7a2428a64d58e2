import { setTimeout as sleep } from 'node:timers/promises';
import type { Bucket } from '@google-cloud/storage';
import { type Backoff, backoffMs } from '../queue/backoff.ts';
import { sendBytes } from './send-bytes.ts';

/** How long a call may take. A test shortens it. */
export interface Patience {
  /** One request without an answer, or a stream without a byte. */
  attemptMs: number;
  /** A call with all its tries; for a big blob, each of its chunks. */
  totalMs: number;
  /** A request that carries bytes gets more time, as for a connection this slow. */
  minBytesPerMs: number;
  backoff: Backoff;
}

/** `totalMs` is well below a lease (60 s, renewed every 20 s): a renewal ends before the lease does. */
export const PATIENCE: Patience = {
  attemptMs: 10_000,
  totalMs: 30_000,
  minBytesPerMs: 128,
  backoff: { minMs: 250, maxMs: 8_000, maxDoublings: 5 },
};

/** Cloud Storage refused, or did not answer in time, however often it was asked. */
export class CloudStorageError extends Error {
  override readonly name = 'CloudStorageError';
  /** Undefined when there was no answer, or half of one. */
  readonly status: number | undefined;

  constructor(message: string, { status, cause }: { status?: number; cause?: unknown } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.status = status;
  }

  /** Whether asking again can help. */
  get isPassing(): boolean {
    return this.status === undefined || PASSING_STATUSES.has(this.status);
  }
}

const PASSING_STATUSES = new Set([408, 429, 500, 502, 503, 504]);

/** What we ask to know of an object. */
export interface GcsObject {
  name: string;
  size: string;
  generation: string;
  updated: string;
  crc32c: string;
  metadata?: Record<string, string>;
}

export const OBJECT_FIELDS = 'name,size,generation,updated,crc32c,metadata';

interface Rewrite {
  done: boolean;
  rewriteToken?: string;
  resource?: GcsObject;
}

interface Attempts {
  signal?: AbortSignal | undefined;
  /** The signal does not interrupt a try, only prevents the next: what a torn request has done, nobody knows. */
  isAtomic?: boolean;
  /** Of the body. */
  sizeBytes?: number;
}

interface Request {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  url: URL;
  headers?: Record<string, string>;
  body?: Uint8Array | string;
}

/**
 * The JSON API of one bucket, with the address and credentials that its client was made with.
 *
 * The client's own methods are not used: they cannot be aborted, uploads have no deadline, a failed read destroys
 * the sockets of other requests, a checksum that differs makes them delete whatever is at the name by then, and a
 * write that they repeat after a lost reply looks like a conflict. All of that matters here.
 */
export class GcsApi {
  readonly patience: Patience;
  readonly #bucket: Bucket;

  constructor(bucket: Bucket, patience: Partial<Patience> = {}) {
    this.#bucket = bucket;
    this.patience = { ...PATIENCE, ...patience };
  }

  objectUrl(key: string, query: Record<string, string> = {}, action = ''): URL {
    return this.#url(`/storage/v1/b/${this.#bucket.name}/o/${encodeURIComponent(key)}${action}`, query);
  }

  listUrl(query: Record<string, string>): URL {
    return this.#url(`/storage/v1/b/${this.#bucket.name}/o`, query);
  }

  uploadUrl(query: Record<string, string>): URL {
    return this.#url(`/upload/storage/v1/b/${this.#bucket.name}/o`, query);
  }

  #url(path: string, query: Record<string, string>): URL {
    const url = new URL(this.#bucket.storage.apiEndpoint + path);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    return url;
  }

  /**
   * Until it succeeds, fails for good, or time is up. Every request made through it may happen twice: it must carry a
   * precondition, or be one that does no harm twice. `isRepeat`: an earlier try may have had its effect.
   */
  async retry<T>(
    attempt: (signal: AbortSignal, isRepeat: boolean) => Promise<T>,
    { signal, isAtomic = false, sizeBytes = 0 }: Attempts = {},
  ): Promise<T> {
    const bodyMs = sizeBytes / this.patience.minBytesPerMs;
    const attemptMs = this.patience.attemptMs + bodyMs;
    const deadlineMs = performance.now() + this.patience.totalMs + 2 * bodyMs;
    for (let tries = 1; ; tries++) {
      signal?.throwIfAborted();
      const timeout = new AbortController();
      const timer = setTimeout(() => timeout.abort(new Error(`no answer within ${attemptMs} ms`)), attemptMs);
      try {
        const watched = signal === undefined || isAtomic ? [timeout.signal] : [timeout.signal, signal];
        return await attempt(AbortSignal.any(watched), tries > 1);
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof CloudStorageError && error.isPassing)) throw error;
        // Half of it by chance: those who were refused together do not come back together.
        const waitMs = backoffMs(tries, this.patience.backoff) * (0.5 + Math.random() / 2);
        if (performance.now() + waitMs > deadlineMs) throw error;
        await pause(waitMs, signal);
      } finally {
        clearTimeout(timer);
      }
    }
  }

  /** One request. An answer with another status than `accepted` is an error. */
  async request(
    { method, url, headers = {}, body }: Request,
    accepted: readonly number[],
    signal: AbortSignal,
  ): Promise<Response> {
    const authorization = await this.#authorization(url);
    let response: Response;
    try {
      // Nothing is stored compressed; what is compressed on the way could be neither counted nor checked.
      const all = { 'accept-encoding': 'identity', ...headers, ...authorization };
      response =
        body instanceof Uint8Array
          ? await sendBytes(url, { method, headers: all, body, signal })
          : // 308 is an answer of a resumable session.
            await fetch(url, { method, headers: all, body: body ?? null, redirect: 'manual', signal });
    } catch (error) {
      throw broken(error);
    }
    if (accepted.includes(response.status)) return response;
    const { status } = response;
    throw new CloudStorageError(`Cloud Storage answered ${status}: ${await explanation(response)}`, {
      status,
    });
  }

  /** What is known of the object at `key`, without its bytes. */
  async find(key: string, signal?: AbortSignal): Promise<GcsObject | undefined> {
    return this.retry(
      async (attempt) => {
        const url = this.objectUrl(key, { fields: OBJECT_FIELDS });
        const response = await this.request({ method: 'GET', url }, [200, 404], attempt);
        const found = await readBody<GcsObject>(response);
        return response.status === 200 ? found : undefined;
      },
      { signal },
    );
  }

  /** @returns false when that generation was not the current one any more */
  async deleteGeneration(key: string, generation: string): Promise<boolean> {
    return this.retry(async (attempt) => {
      const url = this.objectUrl(key, { ifGenerationMatch: generation });
      const response = await this.request({ method: 'DELETE', url }, [200, 204, 404, 412], attempt);
      await response.body?.cancel();
      return response.status !== 412;
    });
  }

  /**
   * The whole object in one request, where the object at `key` still has `generation` (`0`: where there is none).
   * `unclear`: the precondition failed, but perhaps only because an earlier try had succeeded.
   */
  async insert(
    object: { name: string; contentType: string } & Partial<Record<'cacheControl' | 'crc32c', string>> & {
        metadata: Record<string, string>;
      },
    bytes: Uint8Array,
    generation: string,
    signal?: AbortSignal,
  ): Promise<GcsObject | 'conflict' | 'unclear'> {
    const url = this.uploadUrl({
      uploadType: 'multipart',
      ifGenerationMatch: generation,
      fields: OBJECT_FIELDS,
    });
    const boundary = `zeroscribe-${crypto.randomUUID()}`;
    const head =
      `--${boundary}\r\ncontent-type: application/json; charset=utf-8\r\n\r\n${JSON.stringify(object)}\r\n` +
      `--${boundary}\r\ncontent-type: ${object.contentType}\r\n\r\n`;
    const body = Buffer.concat([Buffer.from(head), bytes, Buffer.from(`\r\n--${boundary}--\r\n`)]);
    const headers = { 'content-type': `multipart/related; boundary=${boundary}` };
    return this.retry(
      async (attempt, isRepeat) => {
        const response = await this.request({ method: 'POST', url, headers, body }, [200, 412], attempt);
        const stored = await readBody<GcsObject>(response);
        if (response.status === 200) return stored;
        return isRepeat ? 'unclear' : 'conflict';
      },
      { signal, isAtomic: true, sizeBytes: bytes.length },
    );
  }

  /**
   * Copies within the service, where the object at `to` still has `generation`. Undefined when it has not, or when
   * `from` is not what it was.
   */
  async rewrite(
    from: GcsObject,
    to: string,
    generation: string,
    signal?: AbortSignal,
  ): Promise<GcsObject | undefined> {
    // Small ones, and those that stay in place, are done with the first answer; others take several.
    for (let rewriteToken: string | undefined; ; ) {
      const query = {
        sourceGeneration: from.generation,
        ifGenerationMatch: generation,
        fields: `done,rewriteToken,resource(${OBJECT_FIELDS})`,
        ...(rewriteToken === undefined ? {} : { rewriteToken }),
      };
      const action = `/rewriteTo/b/${this.#bucket.name}/o/${encodeURIComponent(to)}`;
      const url = this.objectUrl(from.name, query, action);
      const answer = await this.retry(
        async (attempt) => {
          const response = await this.request({ method: 'POST', url }, [200, 404, 412], attempt);
          const body = await readBody<Rewrite>(response);
          return response.status === 200 ? body : undefined;
        },
        { signal },
      );
      if (answer === undefined || answer.done) return answer?.resource;
      rewriteToken = answer.rewriteToken;
    }
  }

  /** Objects whose names begin with `prefix` and are `from` or later, in the order of the names. */
  async *list(prefix: string, { from, pageSize = 1_000 }: { from?: string; pageSize?: number } = {}) {
    for (let pageToken: string | undefined; ; ) {
      const url = this.listUrl({
        prefix,
        maxResults: String(pageSize),
        fields: `items(${OBJECT_FIELDS}),nextPageToken`,
        ...(from === undefined ? {} : { startOffset: from }),
        ...(pageToken === undefined ? {} : { pageToken }),
      });
      const page = await this.retry(async (attempt) =>
        readBody<{ items?: GcsObject[]; nextPageToken?: string }>(
          await this.request({ method: 'GET', url }, [200], attempt),
        ),
      );
      yield* page.items ?? [];
      if (page.nextPageToken === undefined) return;
      pageToken = page.nextPageToken;
    }
  }

  /** Nothing where a custom endpoint is used as the client uses it, and for session addresses, which are secrets themselves. */
  async #authorization(url: URL): Promise<Record<string, string>> {
    const { customEndpoint, useAuthWithCustomEndpoint, authClient } = this.#bucket.storage;
    if ((customEndpoint && useAuthWithCustomEndpoint !== true) || url.searchParams.has('upload_id'))
      return {};
    try {
      const headers = await authClient.getRequestHeaders(url.href);
      return Object.fromEntries(new Headers(headers));
    } catch (error) {
      // Without the error itself: it can carry a token.
      const { code } = error as { code?: unknown };
      throw new CloudStorageError(`no access token for Cloud Storage could be had (${String(code)})`);
    }
  }
}

/** The answer must be read inside the try: half an answer is no answer. */
export async function readBody<T>(response: Response): Promise<T> {
  try {
    return (await response.json()) as T;
  } catch (error) {
    // Errors to plain requests for bytes are not always JSON, and nobody reads those.
    if (!response.ok) return {} as T;
    throw broken(error);
  }
}

export function broken(error: unknown): CloudStorageError {
  if (error instanceof CloudStorageError) return error;
  const { message, cause } = error as Error;
  const reason = cause instanceof Error ? `${message}: ${cause.message}` : message;
  return new CloudStorageError(`the connection to Cloud Storage broke (${reason})`, { cause: error });
}

/** At most `limit` at a time. The first failure ends it. */
export async function inParallel<T>(
  items: Iterable<T> | AsyncIterable<T>,
  limit: number,
  each: (item: T) => Promise<void>,
): Promise<void> {
  const shared = (async function* () {
    yield* items;
  })();
  const worker = async () => {
    for await (const item of shared) await each(item);
  };
  await Promise.all(Array.from({ length: limit }, worker));
}

export async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch {
    signal?.throwIfAborted();
  }
}

async function explanation(response: Response): Promise<string> {
  try {
    const text = (await response.text()).slice(0, 2_000);
    try {
      return (JSON.parse(text) as { error: { message: string } }).error.message;
    } catch {
      return text.slice(0, 200) || response.statusText;
    }
  } catch {
    return response.statusText;
  }
}
