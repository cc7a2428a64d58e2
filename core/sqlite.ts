import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';

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
  if (file !== ':memory:') mkdirSync(path.dirname(path.resolve(file)), { recursive: true, mode: 0o700 });
  const database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
  return database;
}

/** SQLite's clock, in whole milliseconds: one clock for every process that shares the file. */
export const NOW_MS = `CAST(unixepoch('subsec') * 1000 AS INTEGER)`;
