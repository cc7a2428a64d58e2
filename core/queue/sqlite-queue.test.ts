import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { createLog } from '../log.ts';
import { ServiceError } from '../problem.ts';
import { openDatabase } from '../sqlite.ts';
import { EmbeddedQueue } from '../triggers/embedded-queue.ts';
import { describeQueue } from './queue.contract.ts';
import { SqliteQueue } from './sqlite-queue.ts';

const run = promisify(execFile);

describeQueue('SqliteQueue', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'queue-'));
  const database = openDatabase(path.join(folder, 'queue.sqlite'));
  const queue = new SqliteQueue(database);
  const consumers: EmbeddedQueue[] = [];
  return {
    queue,
    queueNames: ['cpu', 'gpu'],
    work: async (queueName, worker) => {
      const consumer = new EmbeddedQueue(queue, queueName, {
        log: createLog('test', { level: 'silent' }),
        concurrency: 1,
        backoff: { minMs: 10, maxMs: 20, maxDoublings: 1 },
        handle: async (payload) =>
          (await worker(payload))
            ? { kind: 'done' }
            : { kind: 'retry', error: new ServiceError('internal', 'not yet') },
      });
      consumers.push(consumer);
      consumer.start();
    },
    dispose: async () => {
      await Promise.all(consumers.map((consumer) => consumer.stop(1_000)));
      database.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
});

describe('SqliteQueue', () => {
  let folder: string;
  let file: string;
  let database: DatabaseSync;
  let queue: SqliteQueue;

  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'queue-'));
    file = path.join(folder, 'queue.sqlite');
    database = openDatabase(file);
    queue = new SqliteQueue(database);
  });
  afterEach(async () => {
    database.close();
    await rm(folder, { recursive: true, force: true });
  });

  const enqueue = (name: string, delayMs = 0) =>
    queue.enqueue({ queue: 'cpu', name, payload: { type: 'reconcile' } }, { delayMs });
  const take = (visibilityMs = 60_000) => queue.take('cpu', visibilityMs);

  test('hands out what has been due longest, and of equals what came first', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom(0, 1_000, 2_000), { maxLength: 12 }), async (delays) => {
        database.exec('DELETE FROM tasks');
        for (const [i, delayMs] of delays.entries()) await enqueue(`task-${i}`, delayMs);
        // A day later, with the milliseconds that enqueueing took rounded away.
        database.exec('UPDATE tasks SET due_ms = round(due_ms / 1000.0) * 1000 - 86400000');
        const expected = database.prepare('SELECT name FROM tasks ORDER BY due_ms, id').all();
        const taken: unknown[] = [];
        for (let next = take(); next !== undefined; next = take()) taken.push({ name: next.task.name });
        expect(taken).toEqual(expected.map((row) => ({ ...row })));
      }),
      { numRuns: 20 },
    );
  });

  test('hands a task to one worker at a time and counts how often', async () => {
    await enqueue('a');
    const first = take();
    expect(first).toMatchObject({ task: { queue: 'cpu', name: 'a' }, deliveries: 1 });
    expect(take()).toBeUndefined();
    queue.putBack(first?.receipt ?? '', 0);
    expect(take()).toMatchObject({ deliveries: 2 });
    expect(queue.take('gpu', 60_000)).toBeUndefined();
  });

  test('hands a task out again when its visibility has run out, and not while it is extended', async () => {
    await enqueue('a');
    const first = take(40);
    expect(queue.extend(first?.receipt ?? '', 60_000)).toBe(true);
    await sleep(60);
    expect(take()).toBeUndefined();
    queue.extend(first?.receipt ?? '', 0);
    expect(take()).toMatchObject({ task: { name: 'a' }, deliveries: 2 });
  });

  test('lets nobody settle a delivery of somebody else with a stale receipt', async () => {
    await enqueue('a');
    const stale = take(0)?.receipt ?? '';
    const current = take()?.receipt ?? '';
    expect(queue.acknowledge(stale)).toBe(false);
    expect(queue.putBack(stale, 0)).toBe(false);
    expect(queue.extend(stale, 0)).toBe(false);
    expect(await queue.has({ queue: 'cpu', name: 'a' })).toBe(true);
    expect(take()).toBeUndefined();
    expect(queue.acknowledge(current)).toBe(true);
    expect(queue.acknowledge(current)).toBe(false);
    expect(await queue.has({ queue: 'cpu', name: 'a' })).toBe(false);
  });

  test('accepts a late receipt as long as nobody else has the task', async () => {
    await enqueue('a');
    const late = take(0);
    expect(queue.acknowledge(late?.receipt ?? '')).toBe(true);
    expect(take()).toBeUndefined();
  });

  test('puts back with a delay', async () => {
    await enqueue('a');
    const beforeMs = Date.now();
    queue.putBack(take()?.receipt ?? '', 30_000);
    expect(take()).toBeUndefined();
    const dueMs = queue.nextDueAt('cpu')?.getTime() ?? 0;
    expect(dueMs - beforeMs).toBeGreaterThanOrEqual(29_999);
    expect(dueMs - beforeMs).toBeLessThan(35_000);
  });

  test('leaves a task alone that somebody works on when it is deleted, but not one whose worker is gone', async () => {
    await enqueue('a');
    const receipt = take()?.receipt ?? '';
    await queue.delete({ queue: 'cpu', name: 'a' });
    expect(await queue.has({ queue: 'cpu', name: 'a' })).toBe(true);
    queue.extend(receipt, 0);
    await queue.delete({ queue: 'cpu', name: 'a' });
    expect(await queue.has({ queue: 'cpu', name: 'a' })).toBe(false);
    expect(queue.putBack(receipt, 0)).toBe(false);
    expect(take()).toBeUndefined();
  });

  test('releases what a former process had in flight, at once, with its count', async () => {
    await enqueue('a');
    await enqueue('b');
    await enqueue('later', 60_000);
    take();
    const acknowledged = take();
    queue.acknowledge(acknowledged?.receipt ?? '');
    const next = new SqliteQueue(database);
    expect(next.take('cpu', 60_000)).toBeUndefined();
    next.releaseAll();
    expect(next.take('cpu', 60_000)).toMatchObject({ task: { name: 'a' }, deliveries: 2 });
    expect(next.take('cpu', 60_000)).toBeUndefined();
  });

  test('says when the next task is due, in flight or not', async () => {
    expect(queue.nextDueAt('cpu')).toBeUndefined();
    await enqueue('a', 10_000);
    expect(queue.nextDueAt('cpu')?.getTime()).toBeGreaterThan(Date.now() + 5_000);
    await enqueue('b');
    expect(queue.nextDueAt('cpu')?.getTime()).toBeLessThanOrEqual(Date.now());
    queue.acknowledge(take()?.receipt ?? '');
    expect(queue.nextDueAt('cpu')?.getTime()).toBeGreaterThan(Date.now() + 5_000);
  });

  test('tells who listens to a queue that a task was put there', async () => {
    const heard: string[] = [];
    const deafen = queue.onWaiting('cpu', () => heard.push('cpu'));
    queue.onWaiting('gpu', () => heard.push('gpu'));
    await enqueue('a');
    await enqueue('a');
    expect(heard).toEqual(['cpu']);
    queue.putBack(take()?.receipt ?? '', 0);
    expect(heard).toEqual(['cpu', 'cpu']);
    deafen();
    await enqueue('b');
    expect(heard).toEqual(['cpu', 'cpu']);
  });

  test('forgets the names of ended tasks after an hour, and of no others', async () => {
    await enqueue('finished');
    await enqueue('deleted', 1_000);
    await enqueue('waiting', 1_000);
    queue.acknowledge(take()?.receipt ?? '');
    await queue.delete({ queue: 'cpu', name: 'deleted' });
    const age = (ms: number) =>
      database.exec(`UPDATE tasks SET ended_ms = ended_ms - ${ms}, due_ms = due_ms - ${ms}`);
    age(3_500_000);
    for (const name of ['finished', 'deleted', 'waiting']) expect(await enqueue(name)).toBe('exists');
    age(200_000);
    for (const name of ['finished', 'deleted']) expect(await enqueue(name)).toBe('created');
    expect(await enqueue('waiting')).toBe('exists');
  });

  test('hands each task to exactly one of several processes', async () => {
    const names = Array.from({ length: 60 }, (_, i) => `task-${i}`);
    for (const name of names) await enqueue(name);
    const outputs = await Promise.all(
      Array.from({ length: 2 }, () =>
        run(process.execPath, ['--input-type=module', '--eval', TAKE_ALL, file]).then(({ stdout }) => stdout),
      ),
    );
    const taken = outputs.flatMap((output) => output.trim().split('\n').filter(Boolean));
    expect(taken.sort()).toEqual(names.sort());
  }, 60_000);
});

const TAKE_ALL = `
  const { openDatabase } = await import(${JSON.stringify(new URL('../sqlite.ts', import.meta.url).href)});
  const { SqliteQueue } = await import(${JSON.stringify(new URL('./sqlite-queue.ts', import.meta.url).href)});
  const queue = new SqliteQueue(openDatabase(process.argv[1]));
  for (let next = queue.take('cpu', 60_000); next; next = queue.take('cpu', 60_000)) {
    console.log(next.task.name);
    await new Promise(setImmediate);
    if (!queue.acknowledge(next.receipt)) process.exit(1);
  }
`;
