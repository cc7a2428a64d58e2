import { pipeline, type Readable, Transform } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { BlobNotFound, type Blobs, type PartialBlob, PartialConflict } from '../core/blobs/blobs.ts';
import { UNKNOWN_TYPE } from '../core/media-types.ts';
import { ServiceError } from '../core/problem.ts';
import { type Backoff, backoffMs } from '../core/queue/backoff.ts';
import type { OpenRemote, RemoteMedia } from './remote-media.ts';

/** What has arrived so far, for whoever goes on with it. */
export interface FetchCheckpoint {
  partial: PartialBlob;
  validator: string | null;
}

export interface FetchedMedia {
  /** The one given, or that of the checkpoint. */
  key: string;
  sizeBytes: number;
}

/** A test shortens it. */
export interface FetchPatience {
  /** Tries in a row that bring nothing new. */
  tries: number;
  /** How often all may begin anew. */
  restarts: number;
  backoff: Backoff;
  /** When an origin wants us to wait longer, the queue does. */
  maxWaitMs: number;
  /** Less than this is nothing new. */
  minProgressBytes: number;
}

const PATIENCE: FetchPatience = {
  tries: 6,
  restarts: 5,
  backoff: { minMs: 1_000, maxMs: 16_000, maxDoublings: 4 },
  maxWaitMs: 30_000,
  minProgressBytes: 64 * 1024,
};

export interface FetchOptions {
  /** Where the media goes, unless a checkpoint says where it is going already. */
  key: string;
  checkpoint: FetchCheckpoint | null;
  /** Stores it where a later call finds it. */
  save(checkpoint: FetchCheckpoint): Promise<void>;
  /** Learns what is being fetched, each time it is opened. */
  onOpened?(media: Pick<RemoteMedia, 'sizeBytes' | 'contentType' | 'filename'>): Promise<void> | void;
  onProgress?(doneBytes: number, totalBytes: number | null): void;
  signal: AbortSignal;
  patience?: Partial<FetchPatience>;
}

/**
 * Brings remote media into the store. A connection that breaks is taken up again where it ended, in this call or a
 * later one, as long as the content is the same; otherwise all begins anew. When it fails for good, nothing is left
 * behind; when it can be tried again, or `signal` aborts, what has arrived is kept for the checkpoint's next user.
 * @throws {ServiceError} for what the origin did; what the store throws is thrown as it is
 */
export async function fetchMedia(
  blobs: Blobs,
  open: OpenRemote,
  options: FetchOptions,
): Promise<FetchedMedia> {
  const { signal } = options;
  const patience = { ...PATIENCE, ...options.patience };
  const fetch = new MediaFetch(blobs, open, options);
  let failure: ServiceError | undefined;
  let hasBroken = false;
  let fruitless = 0;
  let farthest = 0;
  for (;;) {
    signal.throwIfAborted();
    const at = await fetch.storedBytes();
    // Also when a connection broke with the last byte, or an earlier call did not get to say so.
    const whole = fetch.wholeAt(at);
    if (whole !== undefined) return whole;
    if (failure === undefined) {
      farthest = at;
    } else if (at >= farthest + patience.minProgressBytes) {
      farthest = at;
      fruitless = 0;
    } else if (++fruitless >= patience.tries) {
      throw failure;
    }
    // However much of each arrived: bytes that are thrown away are no progress.
    if (failure !== undefined && fetch.restarts > patience.restarts) throw failure;
    if (failure !== undefined && (hasBroken || fruitless > 0)) {
      await pause(failure, fruitless, patience, signal);
    }
    try {
      hasBroken = false;
      const fetched = await fetch.goOn(at);
      if (fetched !== undefined) return fetched;
      // An origin may answer with less than the rest, as long as it gets on.
      failure = unreachable('The file arrives in pieces too small to be worth it.');
    } catch (error) {
      signal.throwIfAborted();
      hasBroken = true;
      failure = passing(error);
      if (failure === undefined) {
        if (error instanceof ServiceError) await fetch.discard();
        throw error;
      }
    }
  }
}

class MediaFetch {
  readonly #blobs: Blobs;
  readonly #open: OpenRemote;
  readonly #options: FetchOptions;
  #checkpoint: FetchCheckpoint | null;
  /** How often something else came than what had been begun. */
  restarts = 0;

  constructor(blobs: Blobs, open: OpenRemote, options: FetchOptions) {
    this.#blobs = blobs;
    this.#open = open;
    this.#options = options;
    this.#checkpoint = options.checkpoint;
  }

  async storedBytes(): Promise<number> {
    if (this.#checkpoint === null) return 0;
    const stored = await this.#blobs.storedBytes(this.#checkpoint.partial);
    if (stored === undefined) this.#checkpoint = null;
    return stored ?? 0;
  }

  /** @returns undefined when there is more to come */
  async goOn(at: number): Promise<FetchedMedia | undefined> {
    const validator = this.#checkpoint?.validator ?? null;
    const media = await this.#open({ startAt: at, validator, signal: this.#options.signal });
    // An abort may end it at any time; nobody listening would end the process.
    media.body.on('error', () => {});
    try {
      return await this.#receive(media, at);
    } finally {
      media.body.destroy();
    }
  }

  async discard(): Promise<void> {
    if (this.#checkpoint !== null) await this.#blobs.cancelPartial(this.#checkpoint.partial);
    this.#checkpoint = null;
  }

  async #receive(media: RemoteMedia, at: number): Promise<FetchedMedia | undefined> {
    const { sizeBytes } = media;
    if (this.#checkpoint !== null && !continues(media, this.#checkpoint, at)) {
      await this.discard();
      this.restarts++;
      if (media.startsAt > 0) return undefined;
    }
    await this.#options.onOpened?.(media);
    if (sizeBytes === 0) throw empty();
    // Without a validator nobody could tell a second half from that of another file.
    if (sizeBytes === null || media.validator === null) return await this.#writeWhole(media);
    this.#checkpoint ??= await this.#startPartial(media, sizeBytes, media.validator);
    const { partial } = this.#checkpoint;
    const { signal, onProgress } = this.#options;
    const stored = await pour(
      media,
      (done) => onProgress?.(done, sizeBytes),
      (body) => this.#blobs.appendPartial(partial, media.startsAt, body, { signal }),
    );
    return this.wholeAt(stored);
  }

  async #startPartial(
    { contentType }: RemoteMedia,
    sizeBytes: number,
    validator: string,
  ): Promise<FetchCheckpoint> {
    const partial = await this.#blobs.startPartial(this.#options.key, {
      contentType: contentType ?? UNKNOWN_TYPE,
      sizeBytes,
    });
    try {
      await this.#options.save({ partial, validator });
    } catch (error) {
      await this.#blobs.cancelPartial(partial);
      throw error;
    }
    return { partial, validator };
  }

  async #writeWhole(media: RemoteMedia): Promise<FetchedMedia> {
    const { key, signal, onProgress } = this.#options;
    const contentType = media.contentType ?? UNKNOWN_TYPE;
    const { sizeBytes } = await pour(
      media,
      (done) => onProgress?.(done, media.sizeBytes),
      (body) => this.#blobs.write(key, body, { contentType, signal }),
    );
    if (sizeBytes > 0) return { key, sizeBytes };
    await this.#blobs.delete(key);
    throw empty();
  }

  wholeAt(at: number): FetchedMedia | undefined {
    if (this.#checkpoint === null) return undefined;
    const { key, sizeBytes } = this.#checkpoint.partial;
    return at === sizeBytes ? { key, sizeBytes } : undefined;
  }
}

function continues(media: RemoteMedia, { partial, validator }: FetchCheckpoint, at: number): boolean {
  return media.startsAt === at && media.validator === validator && media.sizeBytes === partial.sizeBytes;
}

/** Has `store` take the body. When the body was what failed, throws the reason of that. */
async function pour<T>(
  { body, startsAt }: RemoteMedia,
  onProgress: (doneBytes: number) => void,
  store: (body: Readable) => Promise<T>,
): Promise<T> {
  let doneBytes = startsAt;
  let broken: unknown = body.errored ?? undefined;
  const counting = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      doneBytes += chunk.length;
      onProgress(doneBytes);
      done(null, chunk);
    },
  });
  body.once('error', (error) => {
    // Otherwise it is the store that gave up, and its reason is the one to tell.
    if (!counting.destroyed) broken = error;
  });
  pipeline(body, counting, () => {});
  try {
    return await store(counting);
  } catch (error) {
    if (broken === undefined || broken instanceof ServiceError) throw broken ?? error;
    throw unreachable('The connection broke off.', broken);
  }
}

/** The error as one that may be gone the next time; undefined when it will not. */
function passing(error: unknown): ServiceError | undefined {
  if (error instanceof ServiceError) return error.slug === 'link-unreachable' ? error : undefined;
  // Somebody else has added to it, or ended it: perhaps this worker's predecessor, in its last moment.
  const isOvertaken = error instanceof PartialConflict || error instanceof BlobNotFound;
  return isOvertaken ? unreachable('The file is fetched by another worker.', error) : undefined;
}

async function pause(
  failure: ServiceError,
  fruitless: number,
  { backoff, maxWaitMs }: FetchPatience,
  signal: AbortSignal,
): Promise<void> {
  const { retry_after_seconds: wanted } = failure.extensions;
  const wantedMs = typeof wanted === 'number' ? wanted * 1_000 : 0;
  if (wantedMs > maxWaitMs) throw failure;
  const waitMs = Math.max(backoffMs(Math.max(1, fruitless), backoff), wantedMs);
  await sleep(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
}

function empty(): ServiceError {
  return new ServiceError('media-empty', 'The file has no bytes. Check it and try again.');
}

function unreachable(detail: string, cause?: unknown): ServiceError {
  return new ServiceError('link-unreachable', detail, { cause });
}
