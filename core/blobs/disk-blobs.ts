import { randomUUID } from 'node:crypto';
import type { Stats } from 'node:fs';
import {
  type FileHandle,
  link,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { unlessAborted } from '../unless-aborted.ts';
import {
  type BlobInfo,
  BlobNotFound,
  type Blobs,
  type PartialBlob,
  PartialConflict,
  PartialOverflow,
} from './blobs.ts';
import { consumeBody } from './consume-body.ts';
import { toBuffer } from './to-buffer.ts';

/** Where blobs stand until they are whole. No key begins with a dot, so no key leads here. */
const INCOMING = '.incoming';
/** Where partial blobs stand, which outlive the process. */
const PARTIAL = '.partial';
/** The name of the file in it, and the time of the blob's beginning in milliseconds. */
const SESSION = /^([0-9a-f-]{36})\.(\d+)$/;

const SEGMENT = '[A-Za-z0-9_-][A-Za-z0-9._-]*';
/** Neither `..`, nor an absolute path, nor another system's separator, nor a hidden file can be written like this. */
const KEY = new RegExp(`^${SEGMENT}(/${SEGMENT})*$`);
const PREFIX = new RegExp(`^(${SEGMENT}/)*(${SEGMENT})?$`);

/**
 * A blob is a file: the blob at `media/x` is `<folder>/media/x`. One process or several may use the folder.
 *
 * A partial blob is a file elsewhere in the folder, and as long as what is stored of it; once it is whole, it is
 * renamed to its key. Nothing else says how far it is, so nothing can contradict it: the usual file systems show the
 * length of what was appended only with the bytes, also after a power cut. Appends of one process take turns. Those of
 * several write each byte where it belongs; that they are of one file is up to the callers' locks.
 */
export class DiskBlobs implements Blobs {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = path.resolve(folder);
  }

  async write(
    key: string,
    body: Readable | Uint8Array | string,
    { signal }: { contentType: string; signal?: AbortSignal },
  ): Promise<BlobInfo> {
    const stream = typeof body === 'string' || ArrayBuffer.isView(body) ? undefined : body;
    return consumeBody(stream, signal, async () => {
      const target = this.localPath(key);
      const temporary = path.join(this.#folder, INCOMING, randomUUID());
      try {
        const stats = await writeWhole(temporary, body, signal);
        await this.#move(temporary, target);
        return info(key, stats);
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
    });
  }

  async read(
    key: string,
    { start = 0, end, signal }: { start?: number; end?: number; signal?: AbortSignal } = {},
  ): Promise<Readable> {
    signal?.throwIfAborted();
    let handle: FileHandle;
    try {
      handle = await open(this.localPath(key), 'r');
    } catch (error) {
      if (isNothingThere(error)) throw new BlobNotFound(key, { cause: error });
      throw error;
    }
    try {
      if (!(await handle.stat()).isFile()) throw new BlobNotFound(key);
      // The open file stays what it was, whatever is renamed over it or deleted from now on.
      return handle.createReadStream({
        start,
        ...(end === undefined ? {} : { end }),
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async stat(key: string): Promise<BlobInfo | undefined> {
    try {
      const stats = await stat(this.localPath(key));
      return stats.isFile() ? info(key, stats) : undefined;
    } catch (error) {
      if (isNothingThere(error)) return undefined;
      throw error;
    }
  }

  async *list(prefix: string): AsyncGenerator<BlobInfo> {
    if (!PREFIX.test(prefix)) throw new TypeError(`not a prefix of keys: ${JSON.stringify(prefix)}`);
    yield* this.#walk(prefix.slice(0, prefix.lastIndexOf('/') + 1), prefix);
  }

  async delete(key: string): Promise<void> {
    const file = this.localPath(key);
    try {
      await unlink(file);
    } catch (error) {
      if (isNothingThere(error) || hasCode(error, 'EISDIR')) return;
      throw error;
    }
    await this.#removeEmptyFolders(path.dirname(file));
  }

  async deletePrefix(prefix: string): Promise<void> {
    for await (const { key } of this.list(prefix)) await this.delete(key);
  }

  async copy(from: string, to: string, { signal }: { signal?: AbortSignal } = {}): Promise<BlobInfo> {
    signal?.throwIfAborted();
    const [source, target] = [this.localPath(from), this.localPath(to)];
    const temporary = path.join(this.#folder, INCOMING, randomUUID());
    await mkdir(path.dirname(temporary), { recursive: true });
    try {
      // Files of blobs never change, so two blobs can be one file.
      await link(source, temporary);
    } catch (error) {
      if (isNothingThere(error)) throw new BlobNotFound(from, { cause: error });
      // Not every file system can. This also finds out that there is a folder.
      const contentType = 'application/octet-stream';
      const body = await this.read(from, signal === undefined ? {} : { signal });
      return this.write(to, body, signal === undefined ? { contentType } : { contentType, signal });
    }
    try {
      const stats = await stat(temporary);
      await this.#move(temporary, target);
      return info(to, stats);
    } finally {
      // It is still there when both were the same file before: renaming one to the other does nothing.
      await rm(temporary, { force: true });
    }
  }

  async startPartial(
    key: string,
    { contentType, sizeBytes }: { contentType: string; sizeBytes: number },
  ): Promise<PartialBlob> {
    this.localPath(key);
    const name = randomUUID();
    const file = path.join(this.#folder, PARTIAL, name);
    const firstNew = await mkdir(path.dirname(file), { recursive: true });
    let startedMs: number;
    try {
      await using handle = await open(file, 'wx', 0o600);
      await handle.sync();
      startedMs = Math.floor((await handle.stat()).mtimeMs);
      await syncFolders(
        path.dirname(file),
        firstNew === undefined ? path.dirname(file) : path.dirname(firstNew),
      );
    } catch (error) {
      await rm(file, { force: true });
      throw error;
    }
    const partial = { key, sizeBytes, contentType, session: `${name}.${startedMs}` };
    if (sizeBytes === 0) await this.#finish(partial);
    return partial;
  }

  async storedBytes(partial: PartialBlob): Promise<number | undefined> {
    try {
      await using handle = await open(this.#partialFile(partial), 'r+');
      // In this order: what is counted must be on the disk.
      const { size } = await handle.stat();
      await handle.datasync();
      if (size < partial.sizeBytes) return size;
    } catch (error) {
      if (!isNothingThere(error)) throw error;
      return (await this.#isWhole(partial)) ? partial.sizeBytes : undefined;
    }
    return this.#finish(partial);
  }

  async appendPartial(
    partial: PartialBlob,
    offset: number,
    body: Readable,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<number> {
    return consumeBody(body, signal, () =>
      inTurn(this.#partialFile(partial), signal, async () => {
        const before = await this.storedBytes(partial);
        if (before === undefined) throw new BlobNotFound(partial.key);
        if (before !== offset) throw new PartialConflict(before);
        let after: number | undefined;
        try {
          await this.#append(partial, offset, body);
        } finally {
          after = await this.storedBytes(partial);
        }
        if (after === undefined) throw new BlobNotFound(partial.key);
        return after;
      }),
    );
  }

  async cancelPartial(partial: PartialBlob): Promise<void> {
    await rm(this.#partialFile(partial), { force: true });
  }

  localPath(key: string): string {
    if (!KEY.test(key)) throw new TypeError(`not a key: ${JSON.stringify(key)}`);
    return path.join(this.#folder, key);
  }

  /** Removes what interrupted writes left behind. Only for the one process that owns the folder, before it writes. */
  async sweepIncoming(): Promise<void> {
    await rm(path.join(this.#folder, INCOMING), { recursive: true, force: true });
  }

  /** Removes the partial blobs to which nothing was added for so long, and which nobody has canceled. */
  async sweepPartials(olderThanMs: number): Promise<void> {
    const folder = path.join(this.#folder, PARTIAL);
    await mkdir(folder, { recursive: true });
    for (const name of await readdir(folder)) {
      const file = path.join(folder, name);
      const { mtimeMs } = (await stat(file).catch(() => undefined)) ?? {};
      if (mtimeMs !== undefined && Date.now() - mtimeMs > olderThanMs) await rm(file, { force: true });
    }
  }

  /** What is left of a crash half-way is a shorter file. */
  async #append(partial: PartialBlob, offset: number, body: Readable): Promise<void> {
    const { sizeBytes } = partial;
    await using handle = offset < sizeBytes ? await this.#openPartial(partial) : undefined;
    let at = offset;
    for await (const piece of body) {
      const bytes = toBuffer(piece);
      const wanted = bytes.subarray(0, sizeBytes - at);
      for (let rest = wanted; rest.length > 0; ) {
        const { bytesWritten } = (await handle?.write(rest, 0, rest.length, at)) ?? { bytesWritten: 0 };
        at += bytesWritten;
        rest = rest.subarray(bytesWritten);
      }
      if (wanted.length < bytes.length) throw new PartialOverflow(partial);
    }
  }

  async #openPartial(partial: PartialBlob): Promise<FileHandle> {
    try {
      return await open(this.#partialFile(partial), 'r+');
    } catch (error) {
      if (isNothingThere(error)) throw new BlobNotFound(partial.key, { cause: error });
      throw error;
    }
  }

  /** Also after another process has, or has canceled it. */
  async #finish(partial: PartialBlob): Promise<number | undefined> {
    const target = this.localPath(partial.key);
    try {
      await this.#move(this.#partialFile(partial), target);
    } catch (error) {
      if (!isNothingThere(error)) throw error;
      await this.#removeEmptyFolders(path.dirname(target));
    }
    return (await this.#isWhole(partial)) ? partial.sizeBytes : undefined;
  }

  /** Once its file is gone: what stands at the key can be it, unless it was there before. */
  async #isWhole({ key, sizeBytes, session }: PartialBlob): Promise<boolean> {
    const found = await this.stat(key);
    const startedMs = Number(SESSION.exec(session)?.[2]);
    return found?.sizeBytes === sizeBytes && found.updatedAt.getTime() >= startedMs;
  }

  #partialFile({ session }: PartialBlob): string {
    const name = SESSION.exec(session)?.[1];
    if (name === undefined) throw new TypeError('not a session of a partial blob on a disk');
    return path.join(this.#folder, PARTIAL, name);
  }

  async #move(temporary: string, target: string): Promise<void> {
    const parent = path.dirname(target);
    for (let triesLeft = 100; ; triesLeft--) {
      try {
        const firstNew = await mkdir(parent, { recursive: true });
        await rename(temporary, target);
        await syncFolders(parent, firstNew === undefined ? parent : path.dirname(firstNew));
        return;
      } catch (error) {
        // Meanwhile the last other blob of that folder was deleted, and the empty folder with it.
        if (!hasCode(error, 'ENOENT') || triesLeft === 0) throw error;
      }
    }
  }

  /** `folder` is a key with a slash at its end, or nothing. */
  async *#walk(folder: string, prefix: string): AsyncGenerator<BlobInfo> {
    for (const name of await this.#namesIn(folder)) {
      const key = folder + name;
      if (name.endsWith('/')) {
        if (key.startsWith(prefix) || prefix.startsWith(key)) yield* this.#walk(key, prefix);
      } else if (key.startsWith(prefix)) {
        const found = await this.stat(key);
        if (found !== undefined) yield found;
      }
    }
  }

  /** Folders carry their slash, which puts them where the keys below them belong in the order. */
  async #namesIn(folder: string): Promise<string[]> {
    try {
      const entries = await readdir(path.join(this.#folder, folder), { withFileTypes: true });
      return entries
        .filter((entry) => KEY.test(entry.name) && (entry.isFile() || entry.isDirectory()))
        .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
        .sort((a, b) => (a < b ? -1 : 1));
    } catch (error) {
      if (isNothingThere(error)) return [];
      throw error;
    }
  }

  async #removeEmptyFolders(folder: string): Promise<void> {
    for (let at = folder; at !== this.#folder; at = path.dirname(at)) {
      try {
        await rmdir(at);
      } catch (error) {
        if (hasCode(error, 'ENOTEMPTY', 'EEXIST', 'ENOENT')) return;
        throw error;
      }
    }
  }
}

/** The whole body is on the disk when this resolves. One piece of it is in memory at a time. */
async function writeWhole(
  file: string,
  body: Readable | Uint8Array | string,
  signal: AbortSignal | undefined,
): Promise<Stats> {
  await mkdir(path.dirname(file), { recursive: true });
  // Recordings are private: nobody else on the machine may read them.
  await using handle = await open(file, 'wx', 0o600);
  await handle.writeFile(body, signal === undefined ? {} : { signal });
  await handle.sync();
  signal?.throwIfAborted();
  return await handle.stat();
}

/** A renamed file, like a new folder, survives a power cut only once the folder that lists it is on the disk. */
async function syncFolders(lowest: string, highest: string): Promise<void> {
  try {
    for (let folder = lowest; ; folder = path.dirname(folder)) {
      await using handle = await open(folder, 'r');
      await handle.sync();
      if (folder === highest) return;
    }
  } catch (error) {
    // Deleted again already, with the folder it was in.
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}

/** Of each partial blob, by its file. */
const turns = new Map<string, Promise<void>>();

/** One after the other. Who is aborted while waiting does not hold up those who come later. */
async function inTurn<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const before = turns.get(name);
  const { promise: done, resolve: end } = Promise.withResolvers<void>();
  const turn = Promise.all([before, done]).then(() => {});
  turns.set(name, turn);
  turn.then(() => {
    if (turns.get(name) === turn) turns.delete(name);
  });
  try {
    await unlessAborted(before, signal);
    return await work();
  } finally {
    end();
  }
}

function info(key: string, stats: Stats): BlobInfo {
  return { key, sizeBytes: stats.size, updatedAt: stats.mtime };
}

function isNothingThere(error: unknown): boolean {
  return hasCode(error, 'ENOENT', 'ENOTDIR');
}

function hasCode(error: unknown, ...codes: string[]): boolean {
  return codes.includes((error as NodeJS.ErrnoException).code ?? '');
}
