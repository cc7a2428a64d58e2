import type { Bucket } from '@google-cloud/storage';
import { GcsApi, inParallel, type Patience, readBody } from '../cloud-storage/gcs-api.ts';
import { RecordConflict, type Records, type StoredRecord } from './records.ts';

const PARALLEL_READS = 32;

type Query = Parameters<Records['list']>[0];

/**
 * A record is an object with JSON in it; its generation is the object's, its label stands in the object's metadata.
 *
 * `read` is one request for the bytes, whose headers also carry the generation and both times, so all of it belongs
 * together. HTTP times are whole seconds: `ageMs` is less than one second off, either way, which a lease of a minute
 * does not notice. (The object's metadata has milliseconds, but then a record would cost two requests, and the other
 * half of the difference, the server's `Date`, has none anyway.)
 */
export class GcsRecords implements Records {
  readonly #api: GcsApi;

  constructor(bucket: Bucket, { patience }: { patience?: Partial<Patience> } = {}) {
    this.#api = new GcsApi(bucket, patience);
  }

  async create(key: string, value: unknown, { label }: { label?: string } = {}): Promise<string> {
    return this.#write(key, value, '0', label);
  }

  async replace(
    key: string,
    value: unknown,
    generation: string,
    { label }: { label?: string } = {},
  ): Promise<string> {
    return this.#write(key, value, generation, label);
  }

  async read(key: string): Promise<StoredRecord | undefined> {
    const url = this.#api.objectUrl(key, { alt: 'media' });
    // A cache on the way must not answer in place of the store.
    const headers = { 'cache-control': 'no-store' };
    return this.#api.retry(async (attempt) => {
      const response = await this.#api.request({ method: 'GET', url, headers }, [200, 404], attempt);
      if (response.status === 404) {
        await response.body?.cancel();
        return undefined;
      }
      const value = await readBody<unknown>(response);
      return { key, value, ...versionOf(response) };
    });
  }

  async delete(key: string): Promise<void> {
    // By its generation, so that a request that arrives late does not hit a record that was made anew. One that was
    // replaced in between must go too: whoever replaced it would not have, had the record been gone before.
    for (;;) {
      const found = await this.#api.find(key);
      if (found === undefined || (await this.#api.deleteGeneration(key, found.generation))) return;
    }
  }

  async list({ limit, ...query }: Query): Promise<{ records: StoredRecord[]; hasMore: boolean }> {
    const keys = this.#keys({ limit, ...query });
    const records: StoredRecord[] = [];
    let next = await keys.next();
    // Once more when some were deleted between the listing and the reading.
    while (records.length < limit && !next.done) {
      const page: string[] = [];
      for (; page.length < limit - records.length && !next.done; next = await keys.next()) {
        page.push(next.value);
      }
      records.push(...(await this.#readAll(page)));
    }
    return { records, hasMore: !next.done };
  }

  async *#keys({ prefix, after, limit, label }: Query): AsyncGenerator<string> {
    // `after` itself, and one more to know whether there is more; labels can only be looked through.
    const pageSize = label === undefined ? Math.min(limit + 2, 1_000) : 1_000;
    const objects = this.#api.list(prefix, { pageSize, ...(after === undefined ? {} : { from: after }) });
    for await (const { name, metadata } of objects) {
      if (name !== after && (label === undefined || metadata?.label === label)) yield name;
    }
  }

  async #readAll(keys: string[]): Promise<StoredRecord[]> {
    const found: (StoredRecord | undefined)[] = new Array(keys.length);
    await inParallel(keys.entries(), PARALLEL_READS, async ([i, key]) => {
      found[i] = await this.read(key);
    });
    return found.filter((record) => record !== undefined);
  }

  async #write(key: string, value: unknown, generation: string, label: string | undefined): Promise<string> {
    // Tells a conflict from a write of ours that succeeded while its answer was lost.
    const write = crypto.randomUUID();
    const object = {
      name: key,
      contentType: 'application/json',
      cacheControl: 'no-store',
      metadata: { write, ...(label === undefined ? {} : { label }) },
    };
    const stored = await this.#api.insert(object, Buffer.from(JSON.stringify(value)), generation);
    if (typeof stored === 'object') return stored.generation;
    // If somebody has replaced ours already, it is a conflict all the same: the record must be read again.
    if (stored === 'unclear') {
      const current = await this.#api.find(key);
      if (current?.metadata?.write === write) return current.generation;
    }
    throw new RecordConflict(key);
  }
}

/** Both times are the store's own. */
function versionOf({ headers }: Response): { generation: string; ageMs: number } {
  const generation = headers.get('x-goog-generation');
  const ageMs = Date.parse(headers.get('date') ?? '') - Date.parse(headers.get('last-modified') ?? '');
  if (generation === null || Number.isNaN(ageMs)) {
    throw new Error('Cloud Storage answered without the generation or the times of a record');
  }
  return { generation, ageMs: Math.max(0, ageMs) };
}
