import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Blobs } from '../core/blobs/blobs.ts';
import { newUploadId, type UploadRef, uploadKey, uploadLockKey, uploadMediaKey } from '../core/objects.ts';
import type { Records } from '../core/records/records.ts';
import { expireUploadTask } from '../core/tasks/task.ts';
import { UPLOAD_LIFETIME_MS, type UploadRecord } from '../core/uploads/upload-record.ts';
import { makeWorkerStore, type WorkerStore } from '../tests/support/worker-store.ts';
import { expireUpload } from './expire-upload.ts';

let store: WorkerStore;
let upload: UploadRef;
let record: UploadRecord;
beforeEach(async () => {
  store = await makeWorkerStore();
  upload = { owner: 'ann', id: newUploadId() };
  record = await put(upload);
});
afterEach(() => store.remove());

/** An upload of ten bytes, and its lock. */
async function put(ref: UploadRef): Promise<UploadRecord> {
  const nowMs = Date.now();
  const partial = await store.blobs.startPartial(uploadMediaKey(ref), {
    contentType: 'audio/wav',
    sizeBytes: 10,
  });
  const created: UploadRecord = {
    schema: 1,
    ...ref,
    kind: 'tus',
    filename: 'a.wav',
    content_type: 'audio/wav',
    size_bytes: 10,
    metadata: null,
    created_at: new Date(nowMs).toISOString(),
    expires_at: new Date(nowMs + UPLOAD_LIFETIME_MS).toISOString(),
    partial,
  };
  await store.records.create(uploadKey(ref), created);
  await store.records.create(uploadLockKey(ref), { holder: null, is_wanted: false });
  return created;
}

async function keys(): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of store.blobs.list('')) found.push(key);
  const { records } = await store.records.list({ prefix: '', limit: 100 });
  return [...found, ...records.map(({ key }) => key)];
}

const expire = (context: Pick<WorkerStore, 'blobs' | 'records'> = store) =>
  expireUpload({ ...context, log: store.log }, expireUploadTask(upload).payload);

describe('the expiry of an upload', () => {
  test.each([0, 4, 10])('at %i of 10 bytes leaves nothing of it, and all of the others', async (size) => {
    const other = { owner: 'ann', id: newUploadId() };
    const kept = await put(other);
    await store.blobs.appendPartial(kept.partial, 0, Readable.from([Buffer.alloc(10)]));
    await store.blobs.appendPartial(record.partial, 0, Readable.from([Buffer.alloc(size)]));
    expect(await expire()).toEqual({ kind: 'done' });
    expect((await keys()).sort()).toEqual(
      [uploadMediaKey(other), uploadKey(other), uploadLockKey(other)].sort(),
    );
    expect(await store.blobs.storedBytes(record.partial)).toBeUndefined();
  });

  test('of one that is not there, or no more, is nothing to do', async () => {
    for (let i = 0; i < 2; i++) expect(await expire()).toEqual({ kind: 'done' });
    expect(await keys()).toEqual([]);
  });

  test('ends a piece that is still arriving, which makes no blob afterwards', async () => {
    const body = new Readable({ read() {} });
    const appending = store.blobs.appendPartial(record.partial, 0, body).catch((error: unknown) => error);
    body.push(Buffer.alloc(4));
    await expire();
    body.push(Buffer.alloc(6));
    body.push(null);
    await appending;
    expect(await keys()).toEqual([]);
  });

  // Each call of a port is a line that a crash can come before.
  test.each([0, 1, 2, 3, 4, 5])(
    'is finished by the next try when it dies before its step %i',
    async (dies) => {
      await store.blobs.appendPartial(record.partial, 0, Readable.from([Buffer.alloc(4)]));
      let step = 0;
      const dying = <T extends object>(port: T): T =>
        new Proxy(port, {
          get(target, name) {
            const method: unknown = Reflect.get(target, name);
            if (typeof method !== 'function') return method;
            return (...args: unknown[]) => {
              if (step++ === dies) throw new Error('the process died here');
              return method.apply(target, args);
            };
          },
        });
      const first = expire({
        blobs: dying<Blobs>(store.blobs) as WorkerStore['blobs'],
        records: dying<Records>(store.records) as WorkerStore['records'],
      });
      if (dies < 5) await expect(first).rejects.toThrow('the process died here');
      else expect(await first).toEqual({ kind: 'done' });
      expect(await expire()).toEqual({ kind: 'done' });
      expect(await keys()).toEqual([]);
      expect(await store.blobs.storedBytes(record.partial)).toBeUndefined();
    },
  );
});
