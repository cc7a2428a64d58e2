import path from 'node:path';
import type { Readable } from 'node:stream';
import type { Bucket } from '@google-cloud/storage';
import {
  CloudStorageError,
  GcsApi,
  type GcsObject,
  inParallel,
  type Patience,
} from '../cloud-storage/gcs-api.ts';
import { Crc32c } from '../cloud-storage/gcs-crc32c.ts';
import { openDownload } from '../cloud-storage/gcs-download.ts';
import { UploadSession } from '../cloud-storage/gcs-upload-session.ts';
import { type BlobInfo, BlobNotFound, type Blobs, type DirectUpload, type PartialBlob } from './blobs.ts';
import { consumeBody } from './consume-body.ts';
import { GcsPartialBlob } from './gcs-partial-blob.ts';
import { toBuffer } from './to-buffer.ts';

/**
 * A multiple of 256 KiB, as the protocol wants. Kept until it has arrived, so that it can be sent again; a write holds
 * two or three of these in memory, and an instance of the API takes many uploads at once.
 */
const CHUNK_BYTES = 4 * 1024 * 1024;
const PARALLEL_DELETES = 16;
/** Somebody always wins a race, so nobody loses this many in a row. */
const MAX_LOST_RACES = 100;

interface Target {
  key: string;
  contentType: string;
  signal?: AbortSignal | undefined;
}

/**
 * A blob is an object of a bucket. One that fits a chunk is written by one request, a longer one by a resumable
 * session. Both carry a precondition, so a request that is repeated, or arrives late, undoes nothing that came after
 * it. Who loses a race to another writer writes again; only a stream longer than a chunk, which is spent, fails.
 */
export class GcsBlobs implements Blobs {
  declare readonly localPath?: (key: string) => string;
  readonly #api: GcsApi;

  /** `mountPath`: where this machine can read the bucket as files. */
  constructor(
    bucket: Bucket,
    { mountPath, patience }: { mountPath?: string; patience?: Partial<Patience> } = {},
  ) {
    this.#api = new GcsApi(bucket, patience);
    if (mountPath !== undefined) this.localPath = (key) => pathBelow(mountPath, key);
  }

  async write(
    key: string,
    body: Readable | Uint8Array | string,
    { contentType, signal }: { contentType: string; signal?: AbortSignal },
  ): Promise<BlobInfo> {
    const stream = typeof body === 'string' || ArrayBuffer.isView(body) ? undefined : body;
    return consumeBody(stream, signal, async () => {
      const target = { key, contentType, signal };
      const stored =
        typeof body === 'string' || ArrayBuffer.isView(body)
          ? await this.#writeWhole(target, typeof body === 'string' ? Buffer.from(body) : body)
          : await this.#writeStream(target, body);
      return info(stored);
    });
  }

  async read(
    key: string,
    { start = 0, end, signal }: { start?: number; end?: number; signal?: AbortSignal } = {},
  ): Promise<Readable> {
    const stream = await openDownload(this.#api, key, { start, end, signal });
    if (stream === undefined) throw new BlobNotFound(key);
    return stream;
  }

  async stat(key: string): Promise<BlobInfo | undefined> {
    const found = await this.#api.find(key);
    return found === undefined ? undefined : info(found);
  }

  async *list(prefix: string): AsyncGenerator<BlobInfo> {
    for await (const object of this.#api.list(prefix)) yield info(object);
  }

  async delete(key: string): Promise<void> {
    // Only the generation that is there now: a request that arrives late must not hit what was written since.
    const found = await this.#api.find(key);
    if (found !== undefined) await this.#api.deleteGeneration(key, found.generation);
  }

  async deletePrefix(prefix: string): Promise<void> {
    await inParallel(this.#api.list(prefix), PARALLEL_DELETES, async ({ name, generation }) => {
      await this.#api.deleteGeneration(name, generation);
    });
  }

  async copy(from: string, to: string, { signal }: { signal?: AbortSignal } = {}): Promise<BlobInfo> {
    for (let lost = 0; lost < MAX_LOST_RACES; lost++) {
      const source = await this.#api.find(from, signal);
      if (source === undefined) throw new BlobNotFound(from);
      const generation = (await this.#api.find(to, signal))?.generation ?? '0';
      // Not done may also mean that only the reply was lost. Doing it again does no harm.
      const copied = await this.#api.rewrite(source, to, generation, signal);
      if (copied !== undefined) return info(copied);
    }
    throw new CloudStorageError(`${to} is written by others all the time`, { status: 412 });
  }

  async startPartial(
    key: string,
    { contentType, sizeBytes, origin }: { contentType: string; sizeBytes: number; origin?: string },
  ): Promise<PartialBlob> {
    const session = await UploadSession.start(this.#api, key, { contentType, sizeBytes, origin });
    // Its end is where it begins: asking ends it.
    if (sizeBytes === 0) await session.state();
    return { key, sizeBytes, contentType, session: session.address };
  }

  async storedBytes(partial: PartialBlob): Promise<number | undefined> {
    return new GcsPartialBlob(this.#api, partial).storedBytes();
  }

  async appendPartial(
    partial: PartialBlob,
    offset: number,
    body: Readable,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<number> {
    return consumeBody(body, signal, () => new GcsPartialBlob(this.#api, partial).append(offset, body));
  }

  async cancelPartial(partial: PartialBlob): Promise<void> {
    await new GcsPartialBlob(this.#api, partial).cancel();
  }

  directUpload({ session, contentType }: PartialBlob): DirectUpload {
    // Resumable, as the protocol of Cloud Storage has it: pieces are multiples of 256 KiB.
    return { url: session, method: 'PUT', headers: { 'Content-Type': contentType } };
  }

  async #writeStream(target: Target, stream: Readable): Promise<GcsObject> {
    let session: UploadSession | undefined;
    try {
      const crc = new Crc32c();
      let start = 0;
      for await (const { bytes, isLast } of chunksOf(stream)) {
        if (isLast && session === undefined) return await this.#writeWhole(target, bytes);
        session ??= await UploadSession.start(this.#api, target.key, target);
        crc.update(bytes);
        if (isLast) {
          const stored = await session.finish(bytes, start, String(crc));
          return await this.#verify(stored, String(crc), start + bytes.length);
        }
        await session.send(bytes, start);
        start += bytes.length;
      }
      throw new Error('unreachable: there is always a last chunk');
    } catch (error) {
      await session?.cancelIfPossible();
      throw error;
    }
  }

  async #writeWhole({ key, contentType, signal }: Target, bytes: Uint8Array): Promise<GcsObject> {
    const crc32c = String(new Crc32c().update(bytes));
    let generation = '0';
    for (let lost = 0; lost < MAX_LOST_RACES; lost++) {
      const write = crypto.randomUUID();
      const object = { name: key, contentType, crc32c, metadata: { write } };
      const stored = await this.#api.insert(object, bytes, generation, signal);
      if (typeof stored === 'object') return await this.#verify(stored, crc32c, bytes.length);
      const current = await this.#api.find(key, signal);
      if (stored === 'unclear' && current?.metadata?.write === write) {
        return await this.#verify(current, crc32c, bytes.length);
      }
      generation = current?.generation ?? '0';
    }
    throw new CloudStorageError(`${key} is written by others all the time`, { status: 412 });
  }

  /** Cloud Storage refuses what does not have the checksum that came with it. This holds where something else does not. */
  async #verify(stored: GcsObject, crc32c: string, sizeBytes: number): Promise<GcsObject> {
    if (stored.crc32c === crc32c && Number(stored.size) === sizeBytes) return stored;
    await this.#api.deleteGeneration(stored.name, stored.generation);
    throw new CloudStorageError(`${stored.name} was not stored as it was sent, and was removed`, {
      status: 400,
    });
  }
}

/** Cuts a stream into chunks of one size. Only the last one is shorter, or empty. */
async function* chunksOf(stream: Readable): AsyncGenerator<{ bytes: Buffer; isLast: boolean }> {
  const pieces: Buffer[] = [];
  let sizeBytes = 0;
  for await (const piece of stream) {
    for (let rest = toBuffer(piece); rest.length > 0; ) {
      // Not before there is more: a chunk that the stream ends with is the last one, and is sent as such.
      if (sizeBytes === CHUNK_BYTES) {
        yield { bytes: joined(pieces), isLast: false };
        sizeBytes = 0;
      }
      const taken = rest.subarray(0, CHUNK_BYTES - sizeBytes);
      pieces.push(taken);
      sizeBytes += taken.length;
      rest = rest.subarray(taken.length);
    }
  }
  yield { bytes: joined(pieces), isLast: true };
}

/** Takes the pieces, so that nobody holds them beside the whole. */
function joined(pieces: Buffer[]): Buffer {
  return Buffer.concat(pieces.splice(0));
}

function info({ name, size, updated }: GcsObject): BlobInfo {
  return { key: name, sizeBytes: Number(size), updatedAt: new Date(updated) };
}

/** Keys come from objects.ts; a mistake there must still not lead out of the mount. */
function pathBelow(folder: string, key: string): string {
  if (key.split('/').some((segment) => ['', '.', '..'].includes(segment)) || key.includes('\0')) {
    throw new TypeError(`not a key: ${JSON.stringify(key)}`);
  }
  return path.join(folder, key);
}
