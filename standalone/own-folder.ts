import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** Another process serves this folder. */
export class FolderInUse extends Error {
  override readonly name = 'FolderInUse';
}

/**
 * Makes this process the only one that works on the folder, until it ends, however it ends: the operating system
 * drops the lock with the process. Being alone is what lets a restart take over at once what was in flight.
 * @returns what lets go of it
 * @throws {FolderInUse}
 */
export function ownFolder(folder: string): () => void {
  mkdirSync(folder, { recursive: true });
  const lock = new DatabaseSync(join(folder, 'owner.lock'));
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;');
  } catch (error) {
    lock.close();
    throw new FolderInUse(
      `Another Zeroscribe is already working in ${folder}. Stop it, or choose another folder with DATA_DIR.`,
      { cause: error },
    );
  }
  return () => lock.close();
}
