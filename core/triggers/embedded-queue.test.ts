import type { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { createLog } from '../log.ts';
import { ServiceError } from '../problem.ts';
import { SqliteQueue } from '../queue/sqlite-queue.ts';
import { openDatabase } from '../sqlite.ts';
import type { Outcome } from '../tasks/outcome.ts';
import { EmbeddedQueue, type EmbeddedQueueOptions } from './embedded-queue.ts';

const DONE: Outcome = { kind: 'done' };
const RETRY: Outcome = { kind: 'retry', error: new ServiceError('interrupted', 'not now') };
const FAST = { minMs: 5, maxMs: 10, maxDoublings: 1 };

let database: DatabaseSync;
let queue: SqliteQueue;
let consumer: EmbeddedQueue;
let logged: { severity: string; message: string; err?: { message: string } }[];

beforeEach(() => {
  database = openDatabase(':memory:');
  queue = new SqliteQueue(database);
  logged = [];
});
afterEach(async () => {
  await consumer.stop(2_000);
  database.close();
});

type Handle = (part: number, signal: AbortSignal) => Promise<Outcome>;

function consume(handle: Handle, options: Partial<EmbeddedQueueOptions> = {}): EmbeddedQueue {
  consumer = new EmbeddedQueue(queue, 'gpu', {
    log: createLog('test', { destination: { write: (line: string) => logged.push(JSON.parse(line)) } }),
    concurrency: 1,
    backoff: FAST,
    handle: ({ part = 0 }, { signal }) => handle(part, signal),
    ...options,
  });
  consumer.start();
  return consumer;
}

const enqueue = (part: number, options?: { delayMs: number }) =>
  queue.enqueue({ queue: 'gpu', name: `task-${part}`, payload: { type: 'transcribe', part } }, options);
const has = (part: number) => queue.has({ queue: 'gpu', name: `task-${part}` });

test.each<Outcome>([
  DONE,
  { kind: 'continue' },
  { kind: 'failed', error: new ServiceError('media-unreadable', 'no') },
])('takes the outcome $kind for an end', async (outcome) => {
  let calls = 0;
  await enqueue(1);
  consume(async () => {
    calls += 1;
    return outcome;
  });
  await until(async () => !(await has(1)));
  expect(calls).toBe(1);
});

test('puts a task back with a growing delay until it succeeds', async () => {
  const atMs: number[] = [];
  await enqueue(1);
  consume(
    async () => {
      atMs.push(performance.now());
      return atMs.length < 4 ? RETRY : DONE;
    },
    { backoff: { minMs: 40, maxMs: 10_000, maxDoublings: 5 } },
  );
  await until(async () => !(await has(1)));
  const waits = atMs.slice(1).map((at, i) => at - (atMs[i] ?? 0));
  // SQLite's clock counts whole milliseconds.
  for (const [i, leastMs] of [40, 80, 160].entries()) expect(waits[i]).toBeGreaterThanOrEqual(leastMs - 2);
});

test.each([
  ['rejects', () => Promise.reject(new Error('a bug'))],
  [
    'throws',
    () => {
      throw new Error('a bug');
    },
  ],
])('tries again when a handler %s, and logs why', async (_, fail) => {
  let calls = 0;
  await enqueue(1);
  consume(() => {
    calls += 1;
    return calls === 1 ? fail() : Promise.resolve(DONE);
  });
  await until(async () => !(await has(1)));
  expect(calls).toBe(2);
  expect(logged).toMatchObject([{ severity: 'ERROR', err: { message: 'a bug' } }]);
});

test('runs as many at once as it may, and the next as soon as one ends', async () => {
  const ends: (() => void)[] = [];
  let running = 0;
  let most = 0;
  for (let part = 0; part < 6; part++) await enqueue(part);
  consume(
    async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => ends.push(resolve));
      running -= 1;
      return DONE;
    },
    { concurrency: 2 },
  );
  for (let ended = 0; ended < 6; ended++) {
    await until(() => ends.length > ended);
    ends[ended]?.();
  }
  await until(async () => running === 0 && queue.nextDueAt('gpu') === undefined);
  expect(most).toBe(2);
});

test('runs no more than it may when a handler enqueues the next task', async () => {
  let running = 0;
  let most = 0;
  await enqueue(1);
  consume(async (part) => {
    if (part < 4) void enqueue(part + 1);
    running += 1;
    most = Math.max(most, running);
    await sleep(10);
    running -= 1;
    return DONE;
  });
  await until(async () => most > 0 && queue.nextDueAt('gpu') === undefined);
  expect(most).toBe(1);
});

test('starts at once what is enqueued in this process, and on time what is delayed', async () => {
  const startedMs = new Map<number, number>();
  consume(
    async (part) => {
      startedMs.set(part, performance.now());
      return DONE;
    },
    { pollMs: 60_000 },
  );
  const enqueuedMs = performance.now();
  await enqueue(1);
  await enqueue(2, { delayMs: 200 });
  await until(() => startedMs.size === 2);
  expect((startedMs.get(1) ?? 0) - enqueuedMs).toBeLessThan(150);
  expect((startedMs.get(2) ?? 0) - enqueuedMs).toBeGreaterThanOrEqual(198);
});

test('finds in a while what another process has enqueued', async () => {
  let calls = 0;
  consume(
    async () => {
      calls += 1;
      return DONE;
    },
    { pollMs: 30 },
  );
  // Another SqliteQueue on the same database is not heard, like another process.
  await new SqliteQueue(database).enqueue({ queue: 'gpu', name: 'x', payload: { type: 'reconcile' } });
  expect(calls).toBe(0);
  await until(() => calls === 1);
});

test('keeps a task for as long as its handler runs', async () => {
  let calls = 0;
  await enqueue(1);
  consume(
    async () => {
      calls += 1;
      await sleep(1_200);
      return DONE;
    },
    { concurrency: 2, visibilityMs: 500, pollMs: 20 },
  );
  await until(async () => !(await has(1)));
  expect(calls).toBe(1);
});

test('stops by asking the handlers, and leaves their work to the next at once', async () => {
  let isRunning = false;
  await enqueue(1);
  consume(
    async (_, signal) => {
      isRunning = true;
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      await sleep(20);
      isRunning = false;
      return RETRY;
    },
    { backoff: { minMs: 60_000, maxMs: 60_000, maxDoublings: 0 } },
  );
  await until(() => isRunning);
  await consumer.stop(2_000);
  expect(isRunning).toBe(false);
  expect(queue.nextDueAt('gpu')?.getTime()).toBeLessThanOrEqual(Date.now());
  await enqueue(2);
  await sleep(30);
  expect(isRunning).toBe(false);
  expect(queue.take('gpu', 1_000)).toMatchObject({ task: { name: 'task-1' }, deliveries: 2 });
});

test('does not wait longer than it may for a handler that does not listen', async () => {
  const finish = Promise.withResolvers<Outcome>();
  await enqueue(1);
  consume(() => finish.promise, { visibilityMs: 150 });
  await until(() => queue.take('gpu', 0) === undefined);
  const startMs = performance.now();
  await consumer.stop(50);
  expect(performance.now() - startMs).toBeLessThan(1_000);
  // It is no longer kept, so somebody else gets it.
  await until(() => queue.take('gpu', 60_000) !== undefined);
  finish.resolve(DONE);
  await sleep(10);
  expect(await has(1)).toBe(true);
});

test('goes on after the database has failed for a moment', async () => {
  let calls = 0;
  consume(
    async () => {
      calls += 1;
      return DONE;
    },
    { pollMs: 20 },
  );
  database.exec('ALTER TABLE tasks RENAME TO hidden');
  await until(() => logged.length > 1);
  database.exec('ALTER TABLE hidden RENAME TO tasks');
  await enqueue(1);
  await until(() => calls === 1);
  expect(logged[0]).toMatchObject({ severity: 'ERROR', message: 'could not take a task' });
});

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(5);
}
