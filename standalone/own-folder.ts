import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { makeFolder, makePrivateFile } from '../core/make-folder.ts';

const LOCK = 'owner.lock';

/** Another process serves this folder. */
export class FolderInUse extends Error {
  override readonly name = 'FolderInUse';
}

/** Nobody can work in this folder as it is. The message says why, and what to do. */
export class FolderUnusable extends Error {
  override readonly name = 'FolderUnusable';
}

/**
 * Makes this process the only one that works on the folder, until it ends, however it ends: the operating system
 * drops the lock with the process. Being alone is what lets a restart take over at once what was in flight.
 * @returns what lets go of it
 * @throws {FolderInUse}, {FolderUnusable}
 */
export function ownFolder(folder: string): () => void {
  let lock: DatabaseSync | undefined;
  try {
    makeFolder(folder);
    makePrivateFile(join(folder, LOCK));
    lock = new DatabaseSync(join(folder, LOCK));
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;');
  } catch (error) {
    lock?.close();
    if (isSqliteError(error, [SQLITE.busy, SQLITE.locked])) {
      throw new FolderInUse(
        `Another Zeroscribe is already working in ${folder}. Stop it, or choose another folder with --data-dir or DATA_DIR.`,
        { cause: error },
      );
    }
    throw explainFolder(error, folder, `delete ${LOCK} in it`);
  }
  const owned = lock;
  return () => owned.close();
}

const SQLITE = {
  busy: 5,
  locked: 6,
  readOnly: 8,
  ioError: 10,
  corrupt: 11,
  cannotOpen: 14,
  notADatabase: 26,
};
const REASONS: Record<string, string> = {
  ENOTDIR: 'part of it is a file, not a folder',
  EEXIST: 'it is a file, not a folder',
  EACCES: 'this user may not write there',
  EPERM: 'this user may not write there',
  EROFS: 'it is read-only',
  ENOENT: 'no folder can be made there',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk is full',
};

/** What went wrong in opening a data folder, for its operator. Anything that is not the folder's fault comes back. */
export function explainFolder(error: unknown, folder: string, whenCorrupt: string): unknown {
  const { code = '', message } = error as NodeJS.ErrnoException;
  const isCorrupt = isSqliteError(error, [SQLITE.corrupt, SQLITE.notADatabase]);
  const isSqlite = isSqliteError(error, [SQLITE.readOnly, SQLITE.ioError, SQLITE.cannotOpen]);
  const reason = isCorrupt || isSqlite ? message : REASONS[code];
  if (reason === undefined) return error;
  const repair = isCorrupt ? `, or ${whenCorrupt}` : '';
  return new FolderUnusable(
    `The data folder ${folder} cannot be used (${reason}). Choose another with --data-dir or DATA_DIR${repair}.`,
    { cause: error },
  );
}

function isSqliteError(error: unknown, codes: readonly number[]): boolean {
  // The lower byte is the kind, the rest says more of it.
  const { errcode } = error as { errcode?: number };
  return errcode !== undefined && codes.includes(errcode & 0xff);
}
