import type { Readable } from 'node:stream';

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
