import { open, readdir, realpath, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { mediaTypeOfName, UNKNOWN_TYPE } from '../core/media-types.ts';

export interface FoundRecordings {
  /** In the order in which a person would list them. */
  paths: string[];
  unreadable: { path: string; reason: string }[];
}

/** All recordings in a folder and its folders, but the hidden ones. Links are followed, and each folder is seen once. */
export async function findRecordings(folder: string): Promise<FoundRecordings> {
  const found: FoundRecordings = { paths: [], unreadable: [] };
  await search(folder, found, new Set());
  return found;
}

async function search(folder: string, found: FoundRecordings, seen: Set<string>): Promise<void> {
  try {
    const real = await realpath(folder);
    if (seen.has(real)) return;
    seen.add(real);
    const names = await readdir(folder);
    names.sort((one, other) => one.localeCompare(other, 'en', { numeric: true }));
    const folders: string[] = [];
    for (const name of names) {
      if (name.startsWith('.')) continue;
      const path = join(folder, name);
      const info = await stat(path).catch(() => undefined);
      if (info?.isDirectory()) folders.push(path);
      else if (await isRecording(path)) found.paths.push(path);
    }
    for (const path of folders) await search(path, found, seen);
  } catch (error) {
    const { code = String(error) } = error as NodeJS.ErrnoException;
    found.unreadable.push({ path: folder, reason: `The folder ${folder} cannot be read (${code}).` });
  }
}

const TRANSPORT_STREAM = /\.m?ts$/i;

/** By its name. A folder of programs is full of .ts, which are no videos: those are looked into. */
export async function isRecording(path: string): Promise<boolean> {
  if (mediaTypeOfName(basename(path)) === UNKNOWN_TYPE) return false;
  const info = await stat(path).catch(() => undefined);
  if (info === undefined || !info.isFile()) return false;
  return !TRANSPORT_STREAM.test(path) || (await isTransportStream(path));
}

const SYNC = 0x47;
const PACKET_BYTES = 188;
/** Cameras put a time before each packet. */
const PREFIX_BYTES = 4;

async function isTransportStream(path: string): Promise<boolean> {
  try {
    await using file = await open(path);
    const { buffer } = await file.read(Buffer.alloc(2 * PACKET_BYTES), 0, 2 * PACKET_BYTES, 0);
    return [0, PREFIX_BYTES].some(
      (offset) => buffer[offset] === SYNC && buffer[offset + PACKET_BYTES + offset] === SYNC,
    );
  } catch {
    // Whoever opens it next says why.
    return true;
  }
}
