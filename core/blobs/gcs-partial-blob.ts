import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { CloudStorageError, type GcsApi, type GcsObject } from '../cloud-storage/gcs-api.ts';
import { Crc32c } from '../cloud-storage/gcs-crc32c.ts';
import { openDownload } from '../cloud-storage/gcs-download.ts';
import { UploadSession } from '../cloud-storage/gcs-upload-session.ts';
import { BlobNotFound, type PartialBlob, PartialConflict, PartialOverflow } from './blobs.ts';
import { toBuffer } from './to-buffer.ts';

/** A session takes multiples of it, until the last piece. */
const GRAIN_BYTES = 256 * 1024;
/** A multiple of that. */
const CHUNK_BYTES = 4 * 1024 * 1024;

/**
 * A partial blob in Cloud Storage: a resumable session, and a tail. The session keeps whole grains only; what comes
 * after the last one stands in an object of its own, the tail, until more has come. The tail says where in the blob it
 * begins, so one that a crash has left behind is known to be outdated.
 */
export class GcsPartialBlob {
  readonly #api: GcsApi;
  readonly #partial: PartialBlob;
  readonly #session: UploadSession;
  readonly #tailKey: string;

  constructor(api: GcsApi, partial: PartialBlob) {
    this.#api = api;
    this.#partial = partial;
    this.#session = UploadSession.reopen(api, partial.session, partial.sizeBytes);
    // Whoever knows the session can add to it; the name of the tail must not tell.
    const name = createHash('sha256').update(partial.session).digest('hex').slice(0, 16);
    this.#tailKey = `${partial.key}.${name}.tail`;
  }

  async storedBytes(): Promise<number | undefined> {
    const [state, tail] = await Promise.all([this.#session.state(), this.#api.find(this.#tailKey)]);
    if (state === undefined) return undefined;
    return typeof state === 'number' ? (tailEnd(tail, state) ?? state) : this.#partial.sizeBytes;
  }

  async append(offset: number, body: Readable): Promise<number> {
    const { key, sizeBytes } = this.#partial;
    const [state, tail] = await Promise.all([this.#session.state(), this.#api.find(this.#tailKey)]);
    if (state === undefined) throw new BlobNotFound(key);
    const isWhole = typeof state !== 'number';
    const stored = isWhole ? sizeBytes : (tailEnd(tail, state) ?? state);
    if (stored !== offset) throw new PartialConflict(stored);
    const sender = new Sender(this.#session, sizeBytes, isWhole ? sizeBytes : state);
    try {
      if (tail !== undefined && stored !== state && !isWhole) {
        await sender.send(await this.#readTail(tail, state - beginOf(tail)));
      }
      try {
        for await (const piece of body) {
          const bytes = toBuffer(piece);
          const wanted = bytes.subarray(0, sizeBytes - sender.endBytes);
          await sender.send(wanted);
          if (wanted.length < bytes.length) throw new PartialOverflow(this.#partial);
        }
      } finally {
        const rest = await sender.flush();
        if (rest.length > 0 && sender.endBytes !== stored) {
          await this.#writeTail(rest, sender.sentBytes, tail?.generation ?? '0');
        }
        if (sender.sentBytes === sizeBytes && !isWhole) await this.#deleteTail();
      }
    } catch (error) {
      throw error instanceof CloudStorageError ? await this.#explain(error, sender.sentBytes) : error;
    }
    return sender.endBytes;
  }

  async cancel(): Promise<void> {
    // Not one that has ended with the blob: it might deny then that it has.
    if (typeof (await this.#session.state()) !== 'object') await this.#session.cancel();
    await this.#deleteTail();
  }

  async #deleteTail(): Promise<void> {
    const tail = await this.#api.find(this.#tailKey);
    if (tail !== undefined) await this.#api.deleteGeneration(tail.name, tail.generation);
  }

  async #readTail({ name, generation }: GcsObject, start: number): Promise<Buffer> {
    const stream = await openDownload(this.#api, name, { start: 0, generation });
    if (stream === undefined) throw await this.#conflict();
    return (await buffer(stream)).subarray(start);
  }

  /** Only in the place of the tail that this append found: another append may have acknowledged a longer one. */
  async #writeTail(bytes: Buffer, begin: number, generation: string): Promise<void> {
    const write = crypto.randomUUID();
    const object = {
      name: this.#tailKey,
      contentType: 'application/octet-stream',
      crc32c: String(new Crc32c().update(bytes)),
      metadata: { begin: String(begin), write },
    };
    const stored = await this.#api.insert(object, bytes, generation);
    if (typeof stored === 'object') return;
    if ((await this.#api.find(this.#tailKey))?.metadata?.write !== write) throw await this.#conflict();
  }

  /** What a refusal by the session means: that another append was faster, or that there is nothing to add to. */
  async #explain(error: CloudStorageError, sentBytes: number): Promise<Error> {
    if (error.isPassing || error.status === 412) return error;
    const state = await this.#session.state().catch(() => sentBytes);
    return state === sentBytes ? error : this.#conflict();
  }

  async #conflict(): Promise<Error> {
    const stored = await this.storedBytes();
    return stored === undefined ? new BlobNotFound(this.#partial.key) : new PartialConflict(stored);
  }
}

/** Where the tail ends, if it goes on from where the session ends. */
function tailEnd(tail: GcsObject | undefined, sessionEnd: number): number | undefined {
  if (tail === undefined) return undefined;
  const end = beginOf(tail) + Number(tail.size);
  return beginOf(tail) <= sessionEnd && sessionEnd < end ? end : undefined;
}

function beginOf({ metadata }: GcsObject): number {
  return Number(metadata?.begin);
}

/** Sends in chunks what comes in pieces. One buffer serves for all chunks, as a request that has ended reads it no more. */
class Sender {
  /** Which the session has. */
  sentBytes: number;
  readonly #session: UploadSession;
  readonly #sizeBytes: number;
  readonly #chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  #heldBytes = 0;
  #hasFailed = false;

  constructor(session: UploadSession, sizeBytes: number, sentBytes: number) {
    this.#session = session;
    this.#sizeBytes = sizeBytes;
    this.sentBytes = sentBytes;
  }

  get endBytes(): number {
    return this.sentBytes + this.#heldBytes;
  }

  async send(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const taken = bytes.copy(this.#chunk, this.#heldBytes, at);
      this.#heldBytes += taken;
      at += taken;
      const isFull = this.#heldBytes === CHUNK_BYTES;
      if (isFull || this.endBytes === this.#sizeBytes) await this.#put(this.#heldBytes);
    }
  }

  /** Sends whole grains. @returns what is left, nothing when a request has failed: then only the session knows. */
  async flush(): Promise<Buffer> {
    if (this.#hasFailed) return Buffer.alloc(0);
    const wholeBytes = this.#heldBytes - (this.#heldBytes % GRAIN_BYTES);
    if (wholeBytes > 0) await this.#put(wholeBytes);
    return this.#chunk.subarray(0, this.#heldBytes);
  }

  async #put(sizeBytes: number): Promise<void> {
    this.#hasFailed = true;
    const object = await this.#session.send(this.#chunk.subarray(0, sizeBytes), this.sentBytes);
    this.sentBytes += sizeBytes;
    this.#chunk.copyWithin(0, sizeBytes, this.#heldBytes);
    this.#heldBytes -= sizeBytes;
    // Another append was faster, and has sent all of it.
    if (object !== undefined && this.sentBytes !== this.#sizeBytes)
      throw new PartialConflict(this.#sizeBytes);
    this.#hasFailed = false;
  }
}
