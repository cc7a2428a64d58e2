import { CloudStorageError, type GcsApi, type GcsObject, OBJECT_FIELDS, readBody } from './gcs-api.ts';

/** Somebody always wins a race, so nobody loses this many in a row. */
const MAX_LOST_RACES = 100;

interface Start {
  contentType: string;
  /** Known before: then it can have no other. */
  sizeBytes?: number;
  /** Of the web page that will send the chunks itself. */
  origin?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** It is not known (any more), has expired, was canceled. */
const ENDED_STATUSES = [404, 410, 499];

/**
 * A resumable upload: an object that comes in chunks and is seen only once it is whole. It can end only once, so
 * repeating a request does no harm.
 */
export class UploadSession {
  readonly #api: GcsApi;
  readonly #url: URL;
  readonly #sizeBytes: number | undefined;
  readonly #signal: AbortSignal | undefined;

  private constructor(
    api: GcsApi,
    url: string,
    { sizeBytes, signal }: { sizeBytes?: number; signal?: AbortSignal | undefined },
  ) {
    this.#api = api;
    this.#url = new URL(url);
    this.#sizeBytes = sizeBytes;
    this.#signal = signal;
  }

  /** One that was started earlier, perhaps by another process. Its address is all that is needed. */
  static reopen(api: GcsApi, address: string, sizeBytes: number): UploadSession {
    return new UploadSession(api, address, { sizeBytes });
  }

  /** Whoever knows it can add to the object. */
  get address(): string {
    return this.#url.href;
  }

  /** It will replace what is at `key` now, and fail when that has changed in the meantime. */
  static async start(
    api: GcsApi,
    key: string,
    { contentType, sizeBytes, origin, signal }: Start,
  ): Promise<UploadSession> {
    let generation = '0';
    for (let lost = 0; lost < MAX_LOST_RACES; lost++) {
      const url = api.uploadUrl({
        uploadType: 'resumable',
        name: key,
        ifGenerationMatch: generation,
        fields: OBJECT_FIELDS,
      });
      const headers = {
        'content-type': 'application/json',
        'x-upload-content-type': contentType,
        ...(sizeBytes === undefined ? {} : { 'x-upload-content-length': String(sizeBytes) }),
        ...(origin === undefined ? {} : { origin }),
      };
      const body = JSON.stringify({ contentType });
      const location = await api.retry(
        async (attempt) => {
          const response = await api.request({ method: 'POST', url, headers, body }, [200, 412], attempt);
          await response.body?.cancel();
          return response.status === 200 ? response.headers.get('location') : undefined;
        },
        { signal },
      );
      if (location === null) throw new CloudStorageError('an upload session came without its address');
      if (location !== undefined) {
        return new UploadSession(api, location, {
          ...(sizeBytes === undefined ? {} : { sizeBytes }),
          signal,
        });
      }
      generation = (await api.find(key, signal))?.generation ?? '0';
    }
    throw new CloudStorageError(`${key} is written by others all the time`, { status: 412 });
  }

  /**
   * How many bytes it has, or the object when it has ended with one; undefined when it has ended without. A session
   * whose size is known ends with this, should its last answer have been lost before it could.
   */
  async state(): Promise<number | GcsObject | undefined> {
    return this.#api.retry(async (attempt) => {
      const response = await this.#api.request(
        {
          method: 'PUT',
          url: this.#url,
          headers: { 'content-range': `bytes */${this.#sizeBytes ?? '*'}` },
          body: '',
        },
        // 412: it has all bytes, but another object has taken its place.
        [200, 201, 308, 412, ...ENDED_STATUSES],
        attempt,
      );
      if (response.ok) return await readBody<GcsObject>(response);
      await response.body?.cancel();
      return response.status === 308 ? storedBytes(response) : undefined;
    });
  }

  /**
   * Resolves once Cloud Storage has all of the chunk that begins at `start`: with the object, when the chunk ends
   * where a session of known size does.
   */
  async send(bytes: Uint8Array, start: number): Promise<GcsObject | undefined> {
    return this.#put(bytes, start, this.#sizeBytes ?? '*');
  }

  /** As `send`; then the object is there. A body that does not have this checksum is refused. */
  async finish(bytes: Uint8Array, start: number, crc32c: string): Promise<GcsObject> {
    const stored = await this.#put(bytes, start, start + bytes.length, crc32c);
    if (stored === undefined) throw new Error('unreachable: a last chunk ends with the object');
    return stored;
  }

  /** What stays of a session that could not be canceled is invisible, and goes after a week. */
  async cancelIfPossible(): Promise<void> {
    try {
      await this.#requestEnd(AbortSignal.timeout(this.#api.patience.attemptMs));
    } catch {
      // The failure that led here is the one to report.
    }
  }

  /** One that has ended already stays as it is. */
  async cancel(): Promise<void> {
    await this.#api.retry((attempt) => this.#requestEnd(attempt));
  }

  async #requestEnd(signal: AbortSignal): Promise<void> {
    const accepted = [204, ...ENDED_STATUSES];
    const response = await this.#api.request({ method: 'DELETE', url: this.#url }, accepted, signal);
    await response.body?.cancel();
  }

  async #put(
    bytes: Uint8Array,
    start: number,
    total: number | '*',
    crc32c?: string,
  ): Promise<GcsObject | undefined> {
    const end = start + bytes.length;
    const isLast = end === total;
    let at = start;
    return this.#api.retry(
      async (attempt, isRepeat) => {
        // What has arrived of a request that broke, only the session knows.
        for (let isAsking = isRepeat; ; isAsking = false) {
          const body = isAsking ? bytes.subarray(bytes.length) : bytes.subarray(at - start);
          const headers: Record<string, string> = {
            'content-range': `bytes ${body.length === 0 ? '*' : `${at}-${end - 1}`}/${total}`,
          };
          if (crc32c !== undefined && !isAsking) headers['x-goog-hash'] = `crc32c=${crc32c}`;
          const response = await this.#api.request(
            { method: 'PUT', url: this.#url, headers, body },
            [200, 201, 308],
            attempt,
          );
          if (response.status !== 308) return await readBody<GcsObject>(response);
          await response.body?.cancel();

          const before = at;
          at = storedBytes(response);
          if (at < start || at > end) {
            throw new CloudStorageError('the upload session has lost what it had', { status: 400 });
          }
          if (at === end && !isLast) return undefined;
          if (at <= before && !isAsking) throw new CloudStorageError('the upload session took nothing');
        }
      },
      { signal: this.#signal, isAtomic: isLast, sizeBytes: bytes.length },
    );
  }
}

/** `Range: bytes=0-41` says that 42 bytes are there; without the header there is none. */
function storedBytes(response: Response): number {
  const last = /^bytes=0-(\d+)$/.exec(response.headers.get('range') ?? '')?.[1];
  return last === undefined ? 0 : Number(last) + 1;
}
