import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { NOW_MS } from '../sqlite.ts';
import type { Task, TaskPayload } from '../tasks/task.ts';
import type { Queue } from './queue.ts';

/** A task in the hands of a worker, until its visibility runs out. */
export interface Delivery {
  task: Task;
  /** Says which delivery is meant; worth nothing once another worker has taken the task. */
  receipt: string;
  /** How often the task was handed out, this time included. */
  deliveries: number;
}

type TaskRef = Pick<Task, 'queue' | 'name'>;

/** How long the name of a finished or deleted task stays in use. */
const TOMBSTONE_MS = 3_600_000;

/**
 * A task waits until `due_ms`, then it can be taken. Taking it moves `due_ms` to the end of the visibility: a worker
 * that dies needs no rule of its own, its task is due again. A task that has ended stays as a tombstone for a while.
 */
export class SqliteQueue implements Queue {
  readonly #enqueue: StatementSync;
  readonly #sweep: StatementSync;
  readonly #has: StatementSync;
  readonly #delete: StatementSync;
  readonly #take: StatementSync;
  readonly #extend: StatementSync;
  readonly #acknowledge: StatementSync;
  readonly #putBack: StatementSync;
  readonly #releaseAll: StatementSync;
  readonly #nextDue: StatementSync;
  readonly #events = new EventEmitter<{ waiting: [queue: string] }>().setMaxListeners(0);

  constructor(database: DatabaseSync, { tombstoneMs = TOMBSTONE_MS }: { tombstoneMs?: number } = {}) {
    database.exec(`
      CREATE TABLE IF NOT EXISTS tasks (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL,
        name TEXT NOT NULL,
        payload TEXT NOT NULL,
        due_ms INTEGER NOT NULL,
        deliveries INTEGER NOT NULL DEFAULT 0,
        receipt TEXT UNIQUE,
        ended_ms INTEGER,
        UNIQUE (queue, name)
      ) STRICT;
      CREATE INDEX IF NOT EXISTS tasks_by_due ON tasks (queue, due_ms, id) WHERE ended_ms IS NULL;
      CREATE INDEX IF NOT EXISTS tasks_by_end ON tasks (ended_ms) WHERE ended_ms IS NOT NULL;
    `);
    this.#enqueue = database.prepare(`
      INSERT INTO tasks (queue, name, payload, due_ms) VALUES (?, ?, ?, ${NOW_MS} + ?)
      ON CONFLICT (queue, name) DO NOTHING
    `);
    this.#sweep = database.prepare(`DELETE FROM tasks WHERE ended_ms < ${NOW_MS} - ${tombstoneMs}`);
    this.#has = database.prepare('SELECT 1 FROM tasks WHERE queue = ? AND name = ? AND ended_ms IS NULL');
    this.#delete = database.prepare(`
      UPDATE tasks SET ended_ms = ${NOW_MS}, receipt = NULL
      WHERE queue = ? AND name = ? AND ended_ms IS NULL AND (receipt IS NULL OR due_ms <= ${NOW_MS})
    `);
    this.#take = database.prepare(`
      UPDATE tasks SET due_ms = ${NOW_MS} + ?, deliveries = deliveries + 1, receipt = ?
      WHERE id = (
        SELECT id FROM tasks WHERE queue = ? AND ended_ms IS NULL AND due_ms <= ${NOW_MS}
        ORDER BY due_ms, id LIMIT 1
      )
      RETURNING queue, name, payload, deliveries
    `);
    this.#extend = database.prepare(`UPDATE tasks SET due_ms = ${NOW_MS} + ? WHERE receipt = ?`);
    this.#acknowledge = database.prepare(
      `UPDATE tasks SET ended_ms = ${NOW_MS}, receipt = NULL WHERE receipt = ?`,
    );
    this.#putBack = database.prepare(
      `UPDATE tasks SET due_ms = ${NOW_MS} + ?, receipt = NULL WHERE receipt = ? RETURNING queue`,
    );
    this.#releaseAll = database.prepare(
      `UPDATE tasks SET due_ms = ${NOW_MS}, receipt = NULL WHERE receipt IS NOT NULL RETURNING queue`,
    );
    this.#nextDue = database.prepare(
      'SELECT min(due_ms) AS due_ms FROM tasks WHERE queue = ? AND ended_ms IS NULL',
    );
  }

  async enqueue(
    { queue, name, payload }: Task,
    { delayMs = 0 }: { delayMs?: number } = {},
  ): Promise<'created' | 'exists'> {
    this.#sweep.run();
    const { changes } = this.#enqueue.run(queue, name, JSON.stringify(payload), Math.ceil(delayMs));
    if (changes === 0) return 'exists';
    this.#events.emit('waiting', queue);
    return 'created';
  }

  async has({ queue, name }: TaskRef): Promise<boolean> {
    return this.#has.get(queue, name) !== undefined;
  }

  async delete({ queue, name }: TaskRef): Promise<void> {
    this.#delete.run(queue, name);
  }

  /** The task that has been due longest. It is nobody else's until `visibilityMs` have passed without `extend`. */
  take(queue: string, visibilityMs: number): Delivery | undefined {
    const receipt = randomUUID();
    const row = this.#take.get(visibilityMs, receipt, queue);
    if (row === undefined) return undefined;
    const payload = JSON.parse(String(row.payload)) as TaskPayload;
    return { task: { queue, name: String(row.name), payload }, receipt, deliveries: Number(row.deliveries) };
  }

  /** @returns false when the task has gone to somebody else meanwhile; the same holds for the next two */
  extend(receipt: string, visibilityMs: number): boolean {
    return this.#extend.run(visibilityMs, receipt).changes !== 0;
  }

  acknowledge(receipt: string): boolean {
    return this.#acknowledge.run(receipt).changes !== 0;
  }

  putBack(receipt: string, delayMs: number): boolean {
    const row = this.#putBack.get(Math.ceil(delayMs), receipt);
    if (row !== undefined) this.#events.emit('waiting', String(row.queue));
    return row !== undefined;
  }

  /** For the sole owner of the database, at start: what was in flight belongs to processes that are gone. */
  releaseAll(): void {
    const queues = new Set(this.#releaseAll.all().map((row) => String(row.queue)));
    for (const queue of queues) this.#events.emit('waiting', queue);
  }

  /** When there is something to take: a waiting task is due, or the visibility of one in flight runs out. */
  nextDueAt(queue: string): Date | undefined {
    const dueMs = this.#nextDue.get(queue)?.due_ms;
    return dueMs === null || dueMs === undefined ? undefined : new Date(Number(dueMs));
  }

  /** Calls `listener` whenever this process puts a task on the queue. Other processes are not heard. */
  onWaiting(queue: string, listener: () => void): () => void {
    const listen = (which: string) => {
      if (which === queue) listener();
    };
    this.#events.on('waiting', listen);
    return () => this.#events.off('waiting', listen);
  }
}
