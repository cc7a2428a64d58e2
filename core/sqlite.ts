import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { makeFolder, makePrivateFile } from './make-folder.ts';

/** How long a process waits for another one that writes. */
const BUSY_TIMEOUT_MS = 10_000;

/**
 * One file for everything that is not a blob; each adapter makes its own tables in it. Several processes may open it.
 *
 * WAL: readers never wait for the writer. `synchronous = FULL`: a commit is on the disk before it returns, so a job
 * that was accepted survives a power cut too. That is one fsync (about a millisecond) per write, and there are a few
 * writes a second; NORMAL would lose the last of them.
 */
export function openDatabase(file: string): DatabaseSync {
  if (file !== ':memory:') {
    makeFolder(path.dirname(path.resolve(file)));
    // SQLite gives what it writes beside it the same mode.
    makePrivateFile(file);
  }
  const database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
  try {
    enterWal(database);
    database.exec('PRAGMA synchronous = FULL');
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

const SQLITE_BUSY = 5;
const RETRY_MS = 20;

/** SQLite does not wait with this statement: two processes that open a new file at once would fail without the loop. */
function enterWal(database: DatabaseSync): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let leftMs = BUSY_TIMEOUT_MS; ; leftMs -= RETRY_MS) {
    try {
      database.exec('PRAGMA journal_mode = WAL');
      return;
    } catch (error) {
      if ((error as { errcode?: number }).errcode !== SQLITE_BUSY || leftMs <= 0) throw error;
      Atomics.wait(pause, 0, 0, RETRY_MS);
    }
  }
}

/** SQLite's clock, in whole milliseconds: one clock for every process that shares the file. */
export const NOW_MS = `CAST(unixepoch('subsec') * 1000 AS INTEGER)`;
