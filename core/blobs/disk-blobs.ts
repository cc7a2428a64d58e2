import { randomUUID } from 'node:crypto';
import type { Stats } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, rmdir, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { addAbortSignal, type Readable } from 'node:stream';
import { type BlobInfo, BlobNotFound, type Blobs } from './blobs.ts';

/** Where blobs stand until they are whole. No key begins with a dot, so no key leads here. */
const INCOMING = '.incoming';

const SEGMENT = '[A-Za-z0-9_-][A-Za-z0-9._-]*';
/** Neither `..`, nor an absolute path, nor another system's separator, nor a hidden file can be written like this. */
const KEY = new RegExp(`^${SEGMENT}(/${SEGMENT})*$`);
const PREFIX = new RegExp(`^(${SEGMENT}/)*(${SEGMENT})?$`);

/** A blob is a file: the blob at `media/x` is `<folder>/media/x`. One process or several may use the folder. */
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
    // A body may fail while the file is being opened; writing finds out later. Nobody listening would end the process.
    stream?.on('error', () => {});
    try {
      const target = this.localPath(key);
      if (signal !== undefined && stream !== undefined) addAbortSignal(signal, stream);
      const temporary = path.join(this.#folder, INCOMING, randomUUID());
      try {
        const stats = await writeWhole(temporary, body, signal);
        await this.#move(temporary, target);
        return info(key, stats);
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
    } catch (error) {
      stream?.destroy();
      signal?.throwIfAborted();
      throw error;
    }
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

  localPath(key: string): string {
    if (!KEY.test(key)) throw new TypeError(`not a key: ${JSON.stringify(key)}`);
    return path.join(this.#folder, key);
  }

  /** Removes what interrupted writes left behind. Only for the one process that owns the folder, before it writes. */
  async sweepIncoming(): Promise<void> {
    await rm(path.join(this.#folder, INCOMING), { recursive: true, force: true });
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

function info(key: string, stats: Stats): BlobInfo {
  return { key, sizeBytes: stats.size, updatedAt: stats.mtime };
}

function isNothingThere(error: unknown): boolean {
  return hasCode(error, 'ENOENT', 'ENOTDIR');
}

function hasCode(error: unknown, ...codes: string[]): boolean {
  return codes.includes((error as NodeJS.ErrnoException).code ?? '');
}
