import { CloudStorageError, type GcsApi, type GcsObject, OBJECT_FIELDS, readBody } from './gcs-api.ts';

/** Somebody always wins a race, so nobody loses this many in a row. */
const MAX_LOST_RACES = 100;

/**
 * A resumable upload: an object that comes in chunks and is seen only once it is whole. It can end only once, so
 * repeating a request does no harm.
 */
export class UploadSession {
  readonly #api: GcsApi;
  readonly #url: URL;
  readonly #signal: AbortSignal | undefined;

  private constructor(api: GcsApi, url: URL, signal: AbortSignal | undefined) {
    this.#api = api;
    this.#url = url;
    this.#signal = signal;
  }

  /** It will replace what is at `key` now, and fail when that has changed in the meantime. */
  static async start(
    api: GcsApi,
    key: string,
    { contentType, signal }: { contentType: string; signal?: AbortSignal | undefined },
  ): Promise<UploadSession> {
    let generation = '0';
    for (let lost = 0; lost < MAX_LOST_RACES; lost++) {
      const url = api.uploadUrl({
        uploadType: 'resumable',
        name: key,
        ifGenerationMatch: generation,
        fields: OBJECT_FIELDS,
      });
      const headers = { 'content-type': 'application/json', 'x-upload-content-type': contentType };
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
      if (location !== undefined) return new UploadSession(api, new URL(location), signal);
      generation = (await api.find(key, signal))?.generation ?? '0';
    }
    throw new CloudStorageError(`${key} is written by others all the time`, { status: 412 });
  }

  /** Resolves once Cloud Storage has all of the chunk that begins at `start`. */
  async send(bytes: Uint8Array, start: number): Promise<void> {
    await this.#put(bytes, start);
  }

  /** As `send`; then the object is there. A body that does not have this checksum is refused. */
  async finish(bytes: Uint8Array, start: number, crc32c: string): Promise<GcsObject> {
    const stored = await this.#put(bytes, start, crc32c);
    if (stored === undefined) throw new Error('unreachable: a last chunk ends with the object');
    return stored;
  }

  /** What stays of a session that could not be canceled is invisible, and goes after a week. */
  async cancel(): Promise<void> {
    try {
      const stop = AbortSignal.timeout(this.#api.patience.attemptMs);
      const response = await this.#api.request(
        { method: 'DELETE', url: this.#url },
        [204, 404, 410, 499],
        stop,
      );
      await response.body?.cancel();
    } catch {
      // The failure that led here is the one to report.
    }
  }

  async #put(bytes: Uint8Array, start: number, crc32c?: string): Promise<GcsObject | undefined> {
    const end = start + bytes.length;
    const isLast = crc32c !== undefined;
    const total = isLast ? end : '*';
    let at = start;
    return this.#api.retry(
      async (attempt, isRepeat) => {
        // What has arrived of a request that broke, only the session knows.
        for (let isAsking = isRepeat; ; isAsking = false) {
          const body = isAsking ? bytes.subarray(bytes.length) : bytes.subarray(at - start);
          const headers: Record<string, string> = {
            'content-range': `bytes ${body.length === 0 ? '*' : `${at}-${end - 1}`}/${total}`,
          };
          if (isLast && !isAsking) headers['x-goog-hash'] = `crc32c=${crc32c}`;
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
