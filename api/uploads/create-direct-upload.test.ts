import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { Storage } from '@google-cloud/storage';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { GcsBlobs } from '../../core/blobs/gcs-blobs.ts';
import { uploadMediaKey } from '../../core/objects.ts';
import { GcsRecords } from '../../core/records/gcs-records.ts';
import { expireUploadTask } from '../../core/tasks/task.ts';
import {
  type FakeCloudStorage,
  startFakeCloudStorage,
} from '../../tests/support/fake-cloud-storage/fake-cloud-storage.ts';
import { type StartedApi, startApi } from '../../tests/support/start-api.ts';
import { finishedUpload } from './open-upload.ts';

const MAX_BYTES = 10_000_000;

interface Direct {
  upload_id: string;
  url: string;
  method: string;
  headers: Record<string, string>;
  expires_at: string;
}

let folder: string;
let fake: FakeCloudStorage;
let blobs: GcsBlobs;
let api: StartedApi;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'direct-'));
  fake = await startFakeCloudStorage({ folder, buckets: ['bucket'] });
  const bucket = new Storage({ apiEndpoint: fake.url, projectId: 'test' }).bucket('bucket');
  blobs = new GcsBlobs(bucket);
  api = await startApi({ blobs, records: new GcsRecords(bucket), maxUploadBytes: MAX_BYTES });
});
afterEach(async () => {
  await api.stop();
  await fake.close();
  await rm(folder, { recursive: true });
});

const post = (body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${api.url}/v1/uploads/direct`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
const refOf = (direct: Direct) => ({ owner: 'local', id: direct.upload_id });
const open = (direct: Direct) =>
  finishedUpload({ blobs, records: new GcsRecords(bucketOf()), now: Date.now }, 'local', direct.upload_id);
const bucketOf = () => new Storage({ apiEndpoint: fake.url, projectId: 'test' }).bucket('bucket');

describe('a direct upload', () => {
  const media = randomBytes(1_000_000);
  const board = { filename: 'board.mp4', content_type: 'video/mp4', size_bytes: media.length };

  test('goes to the store in one piece, past the API', async () => {
    const answer = await post(board);
    expect(answer.status).toBe(201);
    const direct = (await answer.json()) as Direct;
    expect(Object.keys(direct).sort()).toEqual(['expires_at', 'headers', 'method', 'upload_id', 'url']);
    expect(direct.method).toBe('PUT');
    expect(new URL(direct.url).origin).toBe(fake.url);
    expect(Date.parse(direct.expires_at)).toBeGreaterThan(Date.now() + 23 * 3_600_000);
    expect(await api.queue.has(expireUploadTask(refOf(direct)))).toBe(true);
    await expect(open(direct)).rejects.toMatchObject({ slug: 'upload-unfinished' });

    const { url, method, headers } = direct;
    expect((await fetch(url, { method, headers, body: media })).status).toBe(200);
    expect(await open(direct)).toMatchObject({ ...board, kind: 'direct' });
    expect((await buffer(await blobs.read(uploadMediaKey(refOf(direct))))).equals(media)).toBe(true);
  });

  test('can be asked how far it is, and ended, as every upload', async () => {
    const direct = (await (await post(board)).json()) as Direct;
    const { url, method, headers } = direct;
    const first = media.subarray(0, 524_288);
    await fetch(url, {
      method,
      headers: { ...headers, 'content-range': `bytes 0-${first.length - 1}/${media.length}` },
      body: first,
      redirect: 'manual',
    });
    const upload = `${api.url}/v1/uploads/${direct.upload_id}`;
    const tus = { 'tus-resumable': '1.0.0' };
    const head = await fetch(upload, { method: 'HEAD', headers: tus });
    expect(head.headers.get('upload-offset')).toBe('524288');
    expect(head.headers.get('upload-metadata')).toBeNull();
    expect((await fetch(upload, { method: 'DELETE', headers: tus })).status).toBe(204);
    expect(fake.leftovers()).toEqual([]);
    await expect(open(direct)).rejects.toMatchObject({ slug: 'not-found' });
  });

  test.each([-1, 1])('of another size (%i) is refused by the store', async (more) => {
    const { url, method, headers, ...direct } = (await (await post(board)).json()) as Direct;
    const body = more > 0 ? Buffer.concat([media, Buffer.alloc(more)]) : media.subarray(0, more);
    expect((await fetch(url, { method, headers, body })).ok).toBe(false);
    await expect(open({ url, method, headers, ...direct })).rejects.toMatchObject({
      slug: 'upload-unfinished',
    });
  });

  test('of a page is opened for the origin of the page', async () => {
    const startPartial = jest.spyOn(blobs, 'startPartial');
    await post(board, { origin: api.url });
    expect(startPartial.mock.lastCall?.[1]).toEqual({
      contentType: 'video/mp4',
      sizeBytes: media.length,
      origin: api.url,
    });
  });

  test.each<[string, unknown, number, string, string]>([
    ['without a size', { filename: 'a.mp4' }, 422, 'invalid-option', 'size_bytes'],
    ['without bytes', { size_bytes: 0 }, 422, 'invalid-option', 'size_bytes'],
    ['of half a byte', { size_bytes: 1.5 }, 422, 'invalid-option', 'size_bytes'],
    ['of a size in words', { size_bytes: '3' }, 422, 'invalid-option', 'size_bytes'],
    ['with a name that is none', { size_bytes: 3, filename: 7 }, 422, 'invalid-option', 'filename'],
    ['with what is not known', { size_bytes: 3, sha256: 'x' }, 422, 'invalid-option', 'sha256'],
    [
      'of a document',
      { size_bytes: 3, content_type: 'application/pdf' },
      415,
      'media-type-not-supported',
      'content_type',
    ],
    ['of nothing', [], 422, 'invalid-option', 'size_bytes'],
  ])('%s is refused', async (_case, body, status, slug, field) => {
    const answer = await post(body);
    expect(await answer.json()).toMatchObject({ type: `urn:zeroscribe:problem:${slug}`, field });
    expect(answer.status).toBe(status);
    expect(fake.leftovers()).toEqual([]);
  });

  test('beyond the limit is refused', async () => {
    const answer = await post({ size_bytes: MAX_BYTES + 1 });
    expect(answer.status).toBe(413);
    expect(await answer.json()).toMatchObject({ max_bytes: MAX_BYTES });
  });

  test('is not offered where the store is a folder', async () => {
    const local = await startApi();
    const answer = await fetch(`${local.url}/v1/uploads/direct`, { method: 'POST' });
    expect(answer.status).toBe(404);
    await local.stop();
  });
});
