import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Blobs } from './blobs.ts';

/** The blob as a file that another process can open, until it is disposed of. */
export interface LocalFile extends AsyncDisposable {
  path: string;
}

/** In place where the store is a folder or mounted; downloaded elsewhere. On Cloud Run that is memory. */
export async function localFile(
  blobs: Blobs,
  key: string,
  scratchDir: string,
  signal: AbortSignal,
): Promise<LocalFile> {
  const inPlace = blobs.localPath?.(key);
  if (inPlace !== undefined) return { path: inPlace, [Symbol.asyncDispose]: async () => {} };
  const path = join(scratchDir, randomUUID());
  const remove = () => rm(path, { force: true });
  try {
    await pipeline(await blobs.read(key, { signal }), createWriteStream(path), { signal });
  } catch (error) {
    await remove();
    throw error;
  }
  return { path, [Symbol.asyncDispose]: remove };
}
