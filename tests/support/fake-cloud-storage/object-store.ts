import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { Crc32c } from '../../../core/cloud-storage/gcs-crc32c.ts';
import { ApiError, invalid, noSuchObject } from './api-error.ts';
import { checkPreconditions } from './preconditions.ts';

/** As the JSON API shows it. */
export interface ObjectResource extends Record<string, unknown> {
  name: string;
  bucket: string;
  generation: string;
  metageneration: string;
  size: string;
  crc32c: string;
  md5Hash: string;
  contentType: string;
  updated: string;
  timeCreated: string;
  metadata?: Record<string, string>;
}

/** Bytes on the disk that are no object yet. */
export interface Received {
  file: string;
  sizeBytes: number;
  md5Hash: string;
  crc32c: string;
}

/** What a writer may say about an object. */
const WRITABLE = [
  'contentType',
  'cacheControl',
  'contentEncoding',
  'contentDisposition',
  'contentLanguage',
  'storageClass',
  'customTime',
  'metadata',
] as const;

export interface StoreOptions {
  folder: string;
  now: () => number;
  /** As for real: an object can be written once a second. */
  limitsRate: boolean;
}

/**
 * Buckets and objects in a folder. Bytes are files, and so is what is known of them, so that a process that is killed
 * at any moment finds each object whole or not at all. One process at a time may use the folder.
 */
export class ObjectStore {
  readonly #options: StoreOptions;
  readonly #buckets = new Map<string, Map<string, ObjectResource>>();
  readonly #lastWriteMs = new Map<string, number>();
  #lastGeneration = 0;

  constructor(options: StoreOptions) {
    this.#options = options;
    for (const folder of ['objects', 'data', 'temporary', 'buckets']) {
      mkdirSync(join(options.folder, folder), { recursive: true });
    }
    rmSync(join(options.folder, 'temporary'), { recursive: true });
    mkdirSync(join(options.folder, 'temporary'));
    for (const bucket of readdirSync(join(options.folder, 'buckets'))) this.#buckets.set(bucket, new Map());
    const kept = new Set<string>();
    for (const file of readdirSync(join(options.folder, 'objects'))) {
      const object = JSON.parse(
        readFileSync(join(options.folder, 'objects', file), 'utf8'),
      ) as ObjectResource;
      this.#buckets.get(object.bucket)?.set(object.name, object);
      kept.add(object.generation);
    }
    for (const file of readdirSync(join(options.folder, 'data'))) {
      if (!kept.has(file)) rmSync(join(options.folder, 'data', file));
    }
  }

  createBucket(name: string): void {
    if (this.#buckets.has(name)) return;
    writeFileSync(join(this.#options.folder, 'buckets', name), '');
    this.#buckets.set(name, new Map());
  }

  hasBucket(name: string): boolean {
    return this.#buckets.has(name);
  }

  find(bucket: string, name: string): ObjectResource | undefined {
    return this.#objects(bucket).get(name);
  }

  /** The object that a request names, if what it asks of it holds. */
  get(bucket: string, name: string, query: URLSearchParams, { isRead = true } = {}): ObjectResource {
    const object = this.find(bucket, name);
    const generation = query.get('generation');
    if (object === undefined || (generation !== null && generation !== object.generation)) {
      throw noSuchObject(bucket, name);
    }
    checkPreconditions(query, object, { isRead });
    return object;
  }

  /** In the order of the bytes of the names. */
  names(bucket: string, prefix: string): string[] {
    return [...this.#objects(bucket).keys()]
      .filter((name) => name.startsWith(prefix))
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  }

  /** From the check of the preconditions to the visible object nothing else can happen: all of it is synchronous. */
  insert(
    bucket: string,
    name: string,
    given: Record<string, unknown>,
    received: Received,
    query: URLSearchParams,
  ): ObjectResource {
    if (name === '' || Buffer.byteLength(name) > 1_024) throw invalid('Invalid object name.');
    const before = this.find(bucket, name);
    checkPreconditions(query, before, { isRead: false });
    this.#countWrite(bucket, name, before !== undefined);
    const generation = this.#nextGeneration();
    const time = new Date(this.#options.now()).toISOString();
    const object: ObjectResource = {
      kind: 'storage#object',
      id: `${bucket}/${name}/${generation}`,
      name,
      bucket,
      generation,
      metageneration: '1',
      storageClass: 'STANDARD',
      contentType: 'application/octet-stream',
      ...writable(given),
      size: String(received.sizeBytes),
      md5Hash: received.md5Hash,
      crc32c: received.crc32c,
      etag: Buffer.from(generation).toString('base64'),
      timeCreated: time,
      updated: time,
      timeStorageClassUpdated: time,
      timeFinalized: time,
    };
    renameSync(received.file, this.dataFile(generation));
    this.#save(object);
    if (before !== undefined) rmSync(this.dataFile(before.generation));
    return object;
  }

  copy(
    from: ObjectResource,
    bucket: string,
    name: string,
    given: object,
    query: URLSearchParams,
  ): ObjectResource {
    const file = this.temporaryFile();
    try {
      copyFileSync(this.dataFile(from.generation), file);
      const { size, md5Hash, crc32c } = from;
      const received = { file, sizeBytes: Number(size), md5Hash, crc32c };
      return this.insert(bucket, name, { ...from, ...given }, received, query);
    } finally {
      rmSync(file, { force: true });
    }
  }

  patch(
    bucket: string,
    name: string,
    changes: Record<string, unknown>,
    query: URLSearchParams,
  ): ObjectResource {
    const object = this.get(bucket, name, query, { isRead: false });
    this.#countWrite(bucket, name, true);
    const metadata = { ...object.metadata, ...((changes.metadata ?? {}) as Record<string, string | null>) };
    const kept = Object.entries(metadata).filter(([, value]) => value !== null);
    const next: ObjectResource = {
      ...object,
      ...writable({ ...changes, metadata: changes.metadata === null ? {} : Object.fromEntries(kept) }),
      metageneration: String(Number(object.metageneration) + 1),
      updated: new Date(this.#options.now()).toISOString(),
    };
    this.#save(next);
    return next;
  }

  delete(bucket: string, name: string, query: URLSearchParams): void {
    const { generation } = this.get(bucket, name, query, { isRead: false });
    rmSync(this.#objectFile(bucket, name));
    this.#objects(bucket).delete(name);
    rmSync(this.dataFile(generation));
  }

  temporaryFile(): string {
    return join(this.#options.folder, 'temporary', crypto.randomUUID());
  }

  temporaryFiles(): string[] {
    return readdirSync(join(this.#options.folder, 'temporary'));
  }

  dataFile(generation: string): string {
    return join(this.#options.folder, 'data', generation);
  }

  #objects(bucket: string): Map<string, ObjectResource> {
    const objects = this.#buckets.get(bucket);
    if (objects === undefined) throw new ApiError(404, 'notFound', 'The specified bucket does not exist.');
    return objects;
  }

  #objectFile(bucket: string, name: string): string {
    const file = createHash('sha256').update(`${bucket}/${name}`).digest('hex');
    return join(this.#options.folder, 'objects', file);
  }

  #save(object: ObjectResource): void {
    const file = this.temporaryFile();
    writeFileSync(file, JSON.stringify(object));
    renameSync(file, this.#objectFile(object.bucket, object.name));
    this.#objects(object.bucket).set(object.name, object);
  }

  /** Microseconds of this machine's clock, whatever the store's clock says: a restart must not repeat one. */
  #nextGeneration(): string {
    this.#lastGeneration = Math.max(this.#lastGeneration + 1, Date.now() * 1_000);
    return String(this.#lastGeneration);
  }

  #countWrite(bucket: string, name: string, isThere: boolean): void {
    if (!this.#options.limitsRate) return;
    const key = `${bucket}/${name}`;
    const nowMs = performance.now();
    if (isThere && nowMs - (this.#lastWriteMs.get(key) ?? Number.NEGATIVE_INFINITY) < 1_000) {
      throw new ApiError(
        429,
        'rateLimitExceeded',
        `The object ${key} exceeded the rate limit for object mutation operations (create, update, and delete). ` +
          'Please reduce your request rate. See https://cloud.google.com/storage/docs/gcs429.',
      );
    }
    this.#lastWriteMs.set(key, nowMs);
  }
}

/** Throws when what a client declared is not what came. */
export function checkHashes(received: Received, declared: { crc32c?: unknown; md5Hash?: unknown }): void {
  const { crc32c = received.crc32c, md5Hash = received.md5Hash } = declared;
  if (crc32c !== received.crc32c) {
    throw invalid(`Provided CRC32C "${crc32c}" doesn't match calculated CRC32C "${received.crc32c}".`);
  }
  if (md5Hash !== received.md5Hash) {
    throw invalid(`Provided MD5 hash "${md5Hash}" doesn't match calculated MD5 hash "${received.md5Hash}".`);
  }
}

/** Puts bytes into a file. Whatever fails leaves no file behind. */
export async function receive(file: string, data: AsyncIterable<Uint8Array>): Promise<Received> {
  const hashes = new Hashes();
  try {
    await using handle = await open(file, 'wx');
    for await (const piece of data) {
      hashes.update(piece);
      await writeAll(handle, piece);
    }
  } catch (error) {
    rmSync(file, { force: true });
    throw error;
  }
  return { file, ...hashes.result() };
}

export async function measure(file: string): Promise<Received> {
  const hashes = new Hashes();
  if (existsSync(file)) {
    await using handle = await open(file);
    for await (const piece of handle.createReadStream({ autoClose: false })) hashes.update(piece as Buffer);
  } else {
    writeFileSync(file, '');
  }
  return { file, ...hashes.result() };
}

export async function writeAll(handle: FileHandle, piece: Uint8Array, position?: number): Promise<void> {
  for (let at = 0; at < piece.length; ) {
    const where = position === undefined ? null : position + at;
    at += (await handle.write(piece, at, piece.length - at, where)).bytesWritten;
  }
}

class Hashes {
  readonly #md5 = createHash('md5');
  readonly #crc32c = new Crc32c();
  #sizeBytes = 0;

  update(piece: Uint8Array): void {
    this.#md5.update(piece);
    this.#crc32c.update(piece);
    this.#sizeBytes += piece.length;
  }

  result(): Omit<Received, 'file'> {
    return { sizeBytes: this.#sizeBytes, md5Hash: this.#md5.digest('base64'), crc32c: String(this.#crc32c) };
  }
}

function writable(given: Record<string, unknown>): Record<string, unknown> {
  const entries = WRITABLE.flatMap((name) =>
    given[name] === undefined ? [] : [[name, given[name]] as const],
  );
  return Object.fromEntries(entries.filter(([, value]) => value !== null));
}
