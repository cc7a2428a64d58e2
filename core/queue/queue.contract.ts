import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Task, TaskPayload } from '../tasks/task.ts';
import type { Queue } from './queue.ts';

export interface QueueUnderTest {
  queue: Queue;
  /** Two queues that exist. Nobody works on them until `work` is called. */
  queueNames: [string, string];
  /**
   * From now on the tasks of the queue go to `worker`, one at a time. When it resolves to true the task is finished;
   * to false, the task comes again after a short while.
   */
  work(queueName: string, worker: (payload: TaskPayload) => Promise<boolean>): Promise<void>;
  dispose(): Promise<void>;
}

const job = { owner: 'local', id: 'tr_0123456789abcdefghj' };

/** What every queue promises. `makeQueue` gives empty ones. */
export function describeQueue(name: string, makeQueue: () => Promise<QueueUnderTest>): void {
  describe(`${name} as a queue`, () => {
    let underTest: QueueUnderTest;
    let queue: Queue;
    let queueName: string;
    let otherName: string;
    let delivered: TaskPayload[];

    beforeEach(async () => {
      underTest = await makeQueue();
      queue = underTest.queue;
      [queueName, otherName] = underTest.queueNames;
      delivered = [];
    });
    afterEach(() => underTest.dispose());

    const task = (taskName: string, part = 1): Task => ({
      queue: queueName,
      name: taskName,
      payload: { type: 'transcribe', job, part },
    });
    const workAndRemember = (which = queueName) =>
      underTest.work(which, async (payload) => {
        delivered.push(payload);
        return true;
      });
    /** Waits until a task that was enqueued last has come through. */
    const drain = async () => {
      const last = task('the-last', 99);
      await queue.enqueue(last);
      await until(async () => delivered.some((payload) => payload.part === 99) && !(await queue.has(last)));
    };

    test('delivers a task whole, and once when its worker finishes it', async () => {
      expect(await queue.enqueue(task('a', 3))).toBe('created');
      await workAndRemember();
      await until(() => delivered.length === 1);
      await drain();
      expect(delivered[0]).toEqual({ type: 'transcribe', job, part: 3 });
      expect(delivered).toHaveLength(2);
    });

    test('delivers a task that is enqueued while somebody waits for it', async () => {
      await workAndRemember();
      await queue.enqueue({ queue: queueName, name: 'a', payload: { type: 'reconcile' } });
      await until(() => delivered.length === 1);
      expect(delivered).toEqual([{ type: 'reconcile' }]);
    });

    test('does not enqueue a name twice', async () => {
      const tries = Array.from({ length: 8 }, (_, i) => queue.enqueue(task('a', i + 1)));
      const results = await Promise.all(tries);
      expect(results.filter((result) => result === 'created')).toHaveLength(1);
      expect(await queue.enqueue(task('a'))).toBe('exists');
      await workAndRemember();
      await drain();
      expect(delivered).toHaveLength(2);
    });

    test('takes the same name on another queue for another task', async () => {
      expect(await queue.enqueue(task('a'))).toBe('created');
      expect(await queue.enqueue({ ...task('a', 2), queue: otherName })).toBe('created');
      await queue.delete({ queue: queueName, name: 'a' });
      expect(await queue.has({ queue: otherName, name: 'a' })).toBe(true);
      await workAndRemember(otherName);
      await until(() => delivered.length === 1);
      expect(delivered[0]?.part).toBe(2);
    });

    test('does not take the name of a finished task again', async () => {
      await queue.enqueue(task('a'));
      await workAndRemember();
      await until(async () => !(await queue.has(task('a'))));
      expect(await queue.enqueue(task('a', 2))).toBe('exists');
      await drain();
      expect(delivered.map((payload) => payload.part)).toEqual([1, 99]);
    });

    test('does not deliver a deleted task, nor take its name again', async () => {
      await queue.enqueue(task('a'));
      await queue.delete(task('a'));
      expect(await queue.has(task('a'))).toBe(false);
      expect(await queue.enqueue(task('a'))).toBe('exists');
      await workAndRemember();
      await drain();
      expect(delivered.map((payload) => payload.part)).toEqual([99]);
    });

    test('deletes a task that is not due yet', async () => {
      await queue.enqueue(task('a'), { delayMs: 300 });
      await queue.delete(task('a'));
      await workAndRemember();
      await new Promise((resolve) => setTimeout(resolve, 350));
      await drain();
      expect(delivered.map((payload) => payload.part)).toEqual([99]);
    });

    test('deletes what is not there, or not any more, with success', async () => {
      await queue.delete(task('never'));
      await queue.enqueue(task('a'));
      await workAndRemember();
      await until(async () => !(await queue.has(task('a'))));
      await queue.delete(task('a'));
      await queue.delete(task('a'));
    });

    test('has a task while it waits and while somebody works on it, and no longer', async () => {
      expect(await queue.has(task('a'))).toBe(false);
      await queue.enqueue(task('a'));
      expect(await queue.has(task('a'))).toBe(true);
      const finish = Promise.withResolvers<boolean>();
      let isWorking = false;
      await underTest.work(queueName, () => {
        isWorking = true;
        return finish.promise;
      });
      await until(() => isWorking);
      expect(await queue.has(task('a'))).toBe(true);
      expect(await queue.enqueue(task('a'))).toBe('exists');
      finish.resolve(true);
      await until(async () => !(await queue.has(task('a'))));
    });

    test('delivers again what its worker did not finish', async () => {
      await queue.enqueue(task('a'));
      let tries = 0;
      await underTest.work(queueName, async () => {
        expect(await queue.has(task('a'))).toBe(true);
        tries += 1;
        return tries === 3;
      });
      await until(async () => !(await queue.has(task('a'))));
      expect(tries).toBe(3);
    });

    test('does not deliver before the delay is over, and nothing waits behind it', async () => {
      await workAndRemember();
      const startMs = performance.now();
      await queue.enqueue(task('later', 2), { delayMs: 400 });
      await queue.enqueue(task('now', 1));
      await until(() => delivered.length === 2);
      // Clocks that count whole milliseconds may round by one.
      expect(performance.now() - startMs).toBeGreaterThanOrEqual(398);
      expect(delivered.map((payload) => payload.part)).toEqual([1, 2]);
    });
  });
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
}
