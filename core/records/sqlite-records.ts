import { randomUUID } from 'node:crypto';
import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite';
import { NOW_MS } from '../sqlite.ts';
import { RecordConflict, type Records, type StoredRecord } from './records.ts';

/** Greater than every key: nothing that follows a prefix sorts after the last character there is. */
const LAST = '\u{10FFFF}';

const FIELDS = `key, value, generation, max(0, ${NOW_MS} - updated_ms) AS age_ms`;

/** Every change is one statement, and SQLite lets one process write at a time: that is the whole compare-and-set. */
export class SqliteRecords implements Records {
  readonly #create: StatementSync;
  readonly #read: StatementSync;
  readonly #replace: StatementSync;
  readonly #delete: StatementSync;
  readonly #list: StatementSync;
  readonly #listLabeled: StatementSync;

  constructor(database: DatabaseSync) {
    database.exec(`
      CREATE TABLE IF NOT EXISTS records (
        key TEXT NOT NULL PRIMARY KEY,
        value TEXT NOT NULL,
        generation TEXT NOT NULL,
        label TEXT,
        updated_ms INTEGER NOT NULL
      ) STRICT;
      CREATE INDEX IF NOT EXISTS records_by_label ON records (label, key) WHERE label IS NOT NULL;
    `);
    this.#create = database.prepare(`
      INSERT INTO records (key, value, generation, label, updated_ms) VALUES (?, ?, ?, ?, ${NOW_MS})
      ON CONFLICT (key) DO NOTHING
    `);
    this.#read = database.prepare(`SELECT ${FIELDS} FROM records WHERE key = ?`);
    this.#replace = database.prepare(`
      UPDATE records SET value = ?, generation = ?, label = ?, updated_ms = ${NOW_MS}
      WHERE key = ? AND generation = ?
    `);
    this.#delete = database.prepare('DELETE FROM records WHERE key = ?');
    const range = 'key >= ? AND key < ? AND key > ?';
    this.#list = database.prepare(`SELECT ${FIELDS} FROM records WHERE ${range} ORDER BY key LIMIT ?`);
    this.#listLabeled = database.prepare(
      `SELECT ${FIELDS} FROM records WHERE ${range} AND label = ? ORDER BY key LIMIT ?`,
    );
  }

  async create(key: string, value: unknown, { label }: { label?: string } = {}): Promise<string> {
    const generation = randomUUID();
    const { changes } = this.#create.run(key, JSON.stringify(value), generation, label ?? null);
    if (changes === 0) throw new RecordConflict(key);
    return generation;
  }

  async read(key: string): Promise<StoredRecord | undefined> {
    const row = this.#read.get(key);
    return row === undefined ? undefined : toRecord(row);
  }

  async replace(
    key: string,
    value: unknown,
    generation: string,
    { label }: { label?: string } = {},
  ): Promise<string> {
    // Random and not counted: a record that was deleted and made again must not match an old generation.
    const next = randomUUID();
    const { changes } = this.#replace.run(JSON.stringify(value), next, label ?? null, key, generation);
    if (changes === 0) throw new RecordConflict(key);
    return next;
  }

  async delete(key: string): Promise<void> {
    this.#delete.run(key);
  }

  async list({
    prefix,
    after = '',
    limit,
    label,
  }: {
    prefix: string;
    after?: string;
    limit: number;
    label?: string;
  }): Promise<{ records: StoredRecord[]; hasMore: boolean }> {
    const range = [prefix, prefix + LAST, after];
    const rows =
      label === undefined
        ? this.#list.all(...range, limit + 1)
        : this.#listLabeled.all(...range, label, limit + 1);
    return { records: rows.slice(0, limit).map(toRecord), hasMore: rows.length > limit };
  }
}

function toRecord(row: Record<string, SQLOutputValue>): StoredRecord {
  return {
    key: String(row.key),
    value: JSON.parse(String(row.value)),
    generation: String(row.generation),
    ageMs: Number(row.age_ms),
  };
}
