import type { DatabaseSync } from 'node:sqlite';
import { openDatabase } from '../../../core/sqlite.ts';
import type { Queue } from './queue.ts';
import type { Task } from './task.ts';
import { TokenIssuer } from './token-issuer.ts';

/**
 * Keeps everything in memory and writes every change down, so that a killed process starts again with what it had.
 * A task that has ended leaves its name and when: the tombstone.
 */
export class Store {
  readonly queues = new Map<string, Queue>();
  readonly tasks = new Map<string, Task>();
  readonly tombstones = new Map<string, number>();
  readonly issuer: TokenIssuer;
  readonly #database: DatabaseSync;

  constructor(file: string) {
    this.#database = openDatabase(file);
    // The process may die, the machine will not.
    this.#database.exec(`
      PRAGMA synchronous = OFF;
      CREATE TABLE IF NOT EXISTS entities (
        kind TEXT NOT NULL, name TEXT NOT NULL, json TEXT NOT NULL, PRIMARY KEY (kind, name)
      ) STRICT;
    `);
    let privateKeyPem: string | undefined;
    for (const { kind, name, json } of this.#database.prepare('SELECT * FROM entities').all()) {
      const value: unknown = JSON.parse(String(json));
      if (kind === 'queue') this.queues.set(String(name), value as Queue);
      else if (kind === 'task') this.tasks.set(String(name), value as Task);
      else if (kind === 'tombstone') this.tombstones.set(String(name), Number(value));
      else privateKeyPem = String(value);
    }
    this.issuer = new TokenIssuer(privateKeyPem);
    this.#write('key', 'issuer', this.issuer.privateKeyPem);
  }

  saveQueue(queue: Queue): void {
    this.queues.set(queue.name, queue);
    this.#write('queue', queue.name, queue);
  }

  saveTask(task: Task): void {
    this.tasks.set(task.name, task);
    this.#write('task', task.name, task);
  }

  endTask({ name }: Task, nowMs: number): void {
    this.tasks.delete(name);
    this.tombstones.set(name, nowMs);
    this.#write('tombstone', name, nowMs);
    this.#remove('task', name);
  }

  sweepTombstones(olderThanMs: number): void {
    for (const [name, endedMs] of this.tombstones) {
      if (endedMs >= olderThanMs) return;
      this.tombstones.delete(name);
      this.#remove('tombstone', name);
    }
  }

  close(): void {
    this.#database.close();
  }

  #write(kind: string, name: string, value: unknown): void {
    this.#database
      .prepare('INSERT OR REPLACE INTO entities VALUES (?, ?, ?)')
      .run(kind, name, JSON.stringify(value));
  }

  #remove(kind: string, name: string): void {
    this.#database.prepare('DELETE FROM entities WHERE kind = ? AND name = ?').run(kind, name);
  }
}
