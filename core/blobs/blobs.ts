import type { Readable } from 'node:stream';
import { z } from 'zod';

export interface BlobInfo {
  key: string;
  sizeBytes: number;
  updatedAt: Date;
}

/** There is nothing at this key. */
export class BlobNotFound extends Error {
  override readonly name = 'BlobNotFound';
  readonly key: string;
  constructor(key: string, options?: ErrorOptions) {
    super(`there is no blob at ${key}`, options);
    this.key = key;
  }
}

/** A blob that arrives in pieces: over days, and through any process. It is seen under its key only once it is whole. */
export const PartialBlob = z.object({
  key: z.string(),
  sizeBytes: z.int(),
  contentType: z.string(),
  /** Names it in the store, and is all that is needed to add to it: keep it secret. */
  session: z.string(),
});
export type PartialBlob = z.infer<typeof PartialBlob>;

/** The piece does not begin where the partial blob ends. */
export class PartialConflict extends Error {
  override readonly name = 'PartialConflict';
  readonly storedBytes: number;
  constructor(storedBytes: number) {
    super(`the partial blob has ${storedBytes} bytes`);
    this.storedBytes = storedBytes;
  }
}

/** More came than the partial blob was said to have. */
export class PartialOverflow extends Error {
  override readonly name = 'PartialOverflow';
  constructor({ sizeBytes }: PartialBlob) {
    super(`more came than the ${sizeBytes} bytes that the partial blob was to have`);
  }
}

/** One request, or several with a `Content-Range` each. The address is a secret. */
export interface DirectUpload {
  url: string;
  method: 'PUT';
  headers: Record<string, string>;
}

/** Where media, audio, checkpoints and transcripts live: a folder, or a Cloud Storage bucket. Keys come from objects.ts. */
export interface Blobs {
  /**
   * Puts the whole body at `key`, replacing what was there. A reader sees the old blob or the new one, never half:
   * when the body fails or `signal` aborts, nothing changes and nothing is left behind.
   * Resolves once the blob will survive a crash of this process. Memory does not grow with the body.
   */
  write(
    key: string,
    body: Readable | Uint8Array | string,
    options: { contentType: string; signal?: AbortSignal },
  ): Promise<BlobInfo>;

  /**
   * From `start` to `end`, both included, or the whole blob. The stream fails with BlobNotFound when the key is empty.
   * @throws {BlobNotFound}
   */
  read(key: string, range?: { start?: number; end?: number; signal?: AbortSignal }): Promise<Readable>;

  stat(key: string): Promise<BlobInfo | undefined>;

  /** Every blob whose key begins with `prefix`, in the order of their keys. */
  list(prefix: string): AsyncIterable<BlobInfo>;

  /** Nothing at the key is success too. */
  delete(key: string): Promise<void>;
  deletePrefix(prefix: string): Promise<void>;

  /**
   * Puts the blob at `from` at `to` as well, replacing what was there; neither changes with the other from then on.
   * Takes no memory, and where the store can help it no time. `updatedAt` may be that of the original.
   * @throws {BlobNotFound}
   */
  copy(from: string, to: string, options?: { signal?: AbortSignal }): Promise<BlobInfo>;

  /**
   * Begins a blob of exactly `sizeBytes`. One of no bytes is whole at once. `origin`: of the web page that will send
   * the bytes to the store itself, where `session` is an address. A store may keep a blob of its own meanwhile, whose
   * key begins with this one and a dot. Who loses the answer leaves behind what nobody can
   * add to: Cloud Storage drops it after a week, on a disk `sweepPartials` does.
   */
  startPartial(
    key: string,
    options: { contentType: string; sizeBytes: number; origin?: string },
  ): Promise<PartialBlob>;

  /**
   * How many of its bytes will survive a crash: `sizeBytes` exactly when the blob is at its key. Undefined when it has
   * ended without a blob: canceled, expired, or lost. Repairs what a crash has left between the last byte and the blob.
   */
  storedBytes(partial: PartialBlob): Promise<number | undefined>;

  /**
   * Adds the body, which must begin where `storedBytes` ends, and resolves with `storedBytes` afterwards. Stores as it
   * reads: when the body fails or `signal` aborts, it rejects once what came before is kept. So it does when there is
   * more than `sizeBytes`, and keeps nothing of the surplus. Several at once do no harm to each other when their bytes
   * are of one file: each byte is stored where it belongs, and who was slower may fail. Memory does not grow with the
   * body.
   * @throws {PartialOverflow}
   * @throws {PartialConflict} it begins elsewhere, or another one was faster
   * @throws {BlobNotFound} it has ended without a blob
   */
  appendPartial(
    partial: PartialBlob,
    offset: number,
    body: Readable,
    options?: { signal?: AbortSignal },
  ): Promise<number>;

  /** Nothing is left behind, and nothing can be added any more. A blob that is whole already stays. Harmless twice. */
  cancelPartial(partial: PartialBlob): Promise<void>;

  /**
   * How somebody else can send the bytes of a partial blob straight to the store, without any right of ours. Stores
   * that cannot be reached like that leave this out.
   */
  directUpload?(partial: PartialBlob): DirectUpload;

  /**
   * A path at which another process on this machine can read the blob (a folder, a mounted bucket).
   * Stores that have no such path leave this out, and the caller downloads.
   */
  localPath?(key: string): string;
}

/** @throws {BlobNotFound} */
export async function readJson(blobs: Blobs, key: string): Promise<unknown> {
  const pieces: Buffer[] = [];
  for await (const piece of await blobs.read(key)) pieces.push(piece as Buffer);
  return JSON.parse(Buffer.concat(pieces).toString('utf8'));
}

export async function writeJson(blobs: Blobs, key: string, value: unknown): Promise<BlobInfo> {
  return blobs.write(key, JSON.stringify(value), { contentType: 'application/json' });
}
