import { execFile, execFileSync } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { toServiceError } from '../problem.ts';
import { openDatabase } from '../sqlite.ts';
import { describeRecords } from './records.contract.ts';
import { SqliteRecords } from './sqlite-records.ts';

const run = promisify(execFile);

describeRecords('SqliteRecords', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'records-'));
  const databases = [0, 1].map(() => openDatabase(path.join(folder, 'records.sqlite')));
  const [records, others] = databases.map((database) => new SqliteRecords(database));
  if (records === undefined || others === undefined) throw new Error('unreachable');
  return {
    records,
    others,
    dispose: async () => {
      for (const database of databases) database.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
});

describe('SqliteRecords', () => {
  let folder: string;
  let file: string;
  let database: DatabaseSync;

  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'records-'));
    file = path.join(folder, 'new', 'records.sqlite');
    database = openDatabase(file);
  });
  afterEach(async () => {
    database.close();
    await rm(folder, { recursive: true, force: true });
  });

  test('opens a file in a folder that did not exist, and lets nobody else in', async () => {
    expect((await stat(path.dirname(file))).mode & 0o077).toBe(0);
  });

  test('several processes that open a new file at once lose no increment', async () => {
    const shared = path.join(folder, 'shared.sqlite');
    const counters = Array.from({ length: 2 }, () => runScript(COUNT, shared, '150'));
    await Promise.all(counters);
    const opened = openDatabase(shared);
    expect(await new SqliteRecords(opened).read('count')).toMatchObject({ value: 300 });
    opened.close();
  }, 60_000);

  test('a write that has returned survives the death of its process', async () => {
    // It ends by SIGKILL right after the write: nothing is closed, nothing is flushed by Node.
    await expect(runScript(WRITE_AND_DIE, file)).rejects.toMatchObject({ signal: 'SIGKILL' });
    expect(await new SqliteRecords(database).read('a')).toMatchObject({ value: 'written' });
  });

  test('finds records by label without reading the others', () => {
    new SqliteRecords(database);
    const [step] = database
      .prepare("EXPLAIN QUERY PLAN SELECT 1 FROM records WHERE label = 'x' AND key > 'a' AND key < 'b'")
      .all();
    expect(String(step?.detail)).toContain('records_by_label');
  });

  test('a full disk is storage-full, and what was there stays', async () => {
    if (process.platform !== 'linux' || process.getuid?.() !== 0) {
      process.stderr.write('skipped: only root on Linux can mount a small disk to fill\n');
      return;
    }
    const disk = path.join(folder, 'new');
    database.close();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', disk]);
    try {
      database = openDatabase(file);
      const records = new SqliteRecords(database);
      await records.create('a', 'kept');
      const failure = await records.create('b', 'x'.repeat(1_000_000)).catch(toServiceError);
      expect(failure).toMatchObject({ slug: 'storage-full' });
      expect(await records.read('a')).toMatchObject({ value: 'kept' });
      expect(await records.read('b')).toBeUndefined();
    } finally {
      database.close();
      execFileSync('umount', [disk]);
      database = openDatabase(file);
    }
  });
});

const modules = {
  sqlite: new URL('../sqlite.ts', import.meta.url).href,
  records: new URL('./sqlite-records.ts', import.meta.url).href,
};

const OPEN = `
  const { openDatabase } = await import(${JSON.stringify(modules.sqlite)});
  const { SqliteRecords } = await import(${JSON.stringify(modules.records)});
  const [file, times] = process.argv.slice(1);
  const records = new SqliteRecords(openDatabase(file));
`;

const COUNT = `${OPEN}
  await records.create('count', 0).catch(() => {});
  for (let done = 0; done < Number(times); ) {
    const { value, generation } = await records.read('count');
    await new Promise(setImmediate);
    await records.replace('count', value + 1, generation).then(() => done++, (error) => {
      if (error.name !== 'RecordConflict') throw error;
    });
  }
`;

const WRITE_AND_DIE = `${OPEN}
  await records.create('a', 'written');
  process.kill(process.pid, 'SIGKILL');
`;

function runScript(script: string, ...args: string[]): Promise<{ stdout: string; stderr: string }> {
  return run(process.execPath, ['--input-type=module', '--eval', script, ...args]);
}
