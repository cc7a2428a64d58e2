import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { createLog } from '../../core/log.ts';
import { newUploadId, uploadLockKey } from '../../core/objects.ts';
import type { Records } from '../../core/records/records.ts';
import { waitFor } from '../../tests/support/wait-for.ts';
import { makeWorkerStore, type WorkerStore } from '../../tests/support/worker-store.ts';
import { forgetUploadLocks, type HeldLock, UploadLocks } from './upload-lock.ts';

/** Renewed ten times before it is over: a busy machine may miss some. */
const TIMING = { leaseMs: 2_000, renewMs: 200, pollMs: 25, patienceMs: 8_000 };
const log = createLog('test', { level: 'silent' });

let store: WorkerStore;
let key: string;
const upload = () => ({ owner: 'ann', id: uploadId });
let uploadId: string;
beforeEach(async () => {
  store = await makeWorkerStore();
  uploadId = newUploadId();
  key = uploadLockKey(upload());
});
afterEach(() => store.remove());

/** Each is an instance of the API. */
const instance = (records: Records = store.records, timing = TIMING) => new UploadLocks(records, log, timing);

function holder() {
  const stop = new AbortController();
  const wanted = jest.fn();
  const lost = jest.fn();
  return { stop, wanted, lost, waiting: { signal: stop.signal, onWanted: wanted, onLost: lost } };
}

describe.each([
  ['of two instances', () => [instance(), instance()]],
  [
    'of one instance',
    () => {
      const one = instance();
      return [one, one];
    },
  ],
] as const)('a lock %s', (_name, instances) => {
  test('is held by one, who is asked for it, and then by the other', async () => {
    const [a, b] = instances() as [UploadLocks, UploadLocks];
    const first = holder();
    const lock = await a.acquire(upload(), first.waiting);
    const second = holder();
    let next: HeldLock | undefined;
    const waiting = b.acquire(upload(), second.waiting).then((acquired) => {
      next = acquired;
    });
    await waitFor('the request to let go', () => first.wanted.mock.calls.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 2 * TIMING.leaseMs));
    expect(next).toBeUndefined();
    expect(first.lost).not.toHaveBeenCalled();
    await lock.release();
    await waiting;
    await next?.release();
    expect(second.lost).not.toHaveBeenCalled();
    await (await a.acquire(upload(), holder().waiting)).discard();
    expect(await store.records.read(key)).toBeUndefined();
  });

  test('is given up waiting for', async () => {
    const [a] = instances() as [UploadLocks, UploadLocks];
    const b = instance(store.records, { ...TIMING, patienceMs: 100 });
    const lock = await a.acquire(upload(), holder().waiting);
    await expect(b.acquire(upload(), holder().waiting)).rejects.toMatchObject({ slug: 'upload-locked' });
    const impatient = holder();
    const waiting = b.acquire(upload(), impatient.waiting);
    impatient.stop.abort(new Error('gone'));
    await expect(waiting).rejects.toThrow('gone');
    await lock.release();
  });

  test('is held by one at a time, however many want it', async () => {
    let holders = 0;
    let most = 0;
    const turns = Array.from({ length: 12 }, async (_, i) => {
      const lock = await instances()[i % 2]?.acquire(upload(), holder().waiting);
      holders += 1;
      most = Math.max(most, holders);
      await new Promise((resolve) => setTimeout(resolve, 5));
      holders -= 1;
      await lock?.release();
    });
    await Promise.all(turns);
    expect(most).toBe(1);
  });
});

test('a lock of a dead instance is had once its lease is over, and not before', async () => {
  await store.records.create(key, { holder: 'dead', is_wanted: false });
  // The mark of one who waits makes it no younger.
  await new Promise((resolve) => setTimeout(resolve, 200));
  const startedMs = performance.now() - 200;
  const lock = await instance().acquire(upload(), holder().waiting);
  const waitedMs = performance.now() - startedMs;
  expect(waitedMs).toBeGreaterThan(TIMING.leaseMs - 50);
  expect(waitedMs).toBeLessThan(1.5 * TIMING.leaseMs);
  await lock.release();
});

test('a lock that was taken over is lost to its holder, who cannot free it then', async () => {
  const first = holder();
  const lock = await instance().acquire(upload(), first.waiting);
  const stored = await store.records.read(key);
  await store.records.replace(key, { holder: 'other', is_wanted: false }, stored?.generation ?? '');
  await waitFor('the loss', () => first.lost.mock.calls.length > 0);
  await lock.release();
  await lock.discard();
  expect((await store.records.read(key))?.value).toEqual({ holder: 'other', is_wanted: false });
});

test('a lock that cannot be renewed is lost before others may take it', async () => {
  const records: Records = Object.create(store.records, {
    read: { value: (name: string) => (isStuck ? new Promise(() => {}) : store.records.read(name)) },
    create: { value: (name: string, value: unknown) => store.records.create(name, value) },
    replace: { value: (...args: Parameters<Records['replace']>) => store.records.replace(...args) },
  }) as Records;
  let isStuck = false;
  const first = holder();
  const startedMs = performance.now();
  await instance(records).acquire(upload(), first.waiting);
  isStuck = true;
  await waitFor('the loss', () => first.lost.mock.calls.length > 0);
  expect(performance.now() - startedMs).toBeLessThan(TIMING.leaseMs);
});

test('the sole owner of a store forgets the locks of those before it', async () => {
  await store.records.create(key, { holder: 'dead', is_wanted: false });
  await forgetUploadLocks(store.records);
  expect(await store.records.read(key)).toBeUndefined();
});
