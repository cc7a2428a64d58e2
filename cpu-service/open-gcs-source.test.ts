import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { Storage } from '@google-cloud/storage';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { DiskBlobs } from '../core/blobs/disk-blobs.ts';
import {
  type FakeCloudStorage,
  startFakeCloudStorage,
} from '../tests/support/fake-cloud-storage/fake-cloud-storage.ts';
import { fetchMedia } from './fetch-media.ts';
import { openGcsSource } from './open-gcs-source.ts';

const FILE = randomBytes(2 * 1024 * 1024);
const SOURCE = { bucket: 'recordings', key: 'talks/board meeting.mp3' };
const PATIENCE = { attemptMs: 250, totalMs: 1_000, backoff: { minMs: 5, maxMs: 20, maxDoublings: 3 } };

let folder: string;
let fake: FakeCloudStorage;
let storage: Storage;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'gcs-source-'));
  fake = await startFakeCloudStorage({ folder: path.join(folder, 'cloud'), buckets: ['recordings'] });
  storage = new Storage({ apiEndpoint: fake.url, projectId: 'project' });
});
afterEach(async () => {
  await fake.close();
  await rm(folder, { recursive: true, force: true });
});

async function put(
  bytes: Buffer,
  metadata: Record<string, string> = { contentType: 'audio/mpeg' },
): Promise<void> {
  await storage.bucket(SOURCE.bucket).file(SOURCE.key).save(bytes, { resumable: false, metadata });
}

const open = (options: Partial<Parameters<typeof openGcsSource>[2]> = {}, source = SOURCE) =>
  openGcsSource(storage, source, {
    startAt: 0,
    maxBytes: 10 * 1024 * 1024,
    signal: new AbortController().signal,
    patience: PATIENCE,
    ...options,
  });

describe('an object', () => {
  test('gives its bytes, and says what they are', async () => {
    await put(FILE);
    const media = await open();
    expect(media).toMatchObject({
      sizeBytes: FILE.length,
      contentType: 'audio/mpeg',
      filename: 'board meeting.mp3',
      startsAt: 0,
      validator: expect.stringMatching(/^\d+$/),
    });
    expect((await buffer(media.body)).equals(FILE)).toBe(true);
  });

  test('is taken up where it ended while it is the same, and begins anew when it is not', async () => {
    await put(FILE);
    const { validator, body } = await open();
    body.destroy();
    const rest = await open({ startAt: 1_000_000, validator });
    expect(rest).toMatchObject({ startsAt: 1_000_000, sizeBytes: FILE.length, validator });
    expect((await buffer(rest.body)).equals(FILE.subarray(1_000_000))).toBe(true);

    await put(Buffer.from('something else'));
    const other = await open({ startAt: 1_000_000, validator });
    expect(other).toMatchObject({ startsAt: 0, sizeBytes: 14 });
    expect(other.validator).not.toBe(validator);
    expect(String(await buffer(other.body))).toBe('something else');
  });

  test('arrives through connections that break', async () => {
    await put(FILE);
    fake.inject({ kind: 'break', operation: 'download', afterBytes: 300_000, times: 3 });
    const media = await open();
    expect((await buffer(media.body)).equals(FILE)).toBe(true);
  });

  test('is fetched into the store, whatever that is', async () => {
    await put(FILE);
    const blobs = new DiskBlobs(path.join(folder, 'store'));
    const fetched = await fetchMedia(blobs, open, {
      key: 'media/local/tr_1/1.media',
      checkpoint: null,
      save: async () => {},
      signal: new AbortController().signal,
    });
    expect(fetched.sizeBytes).toBe(FILE.length);
    expect((await buffer(await blobs.read(fetched.key))).equals(FILE)).toBe(true);
  });

  test('of an unknown type is known by its name', async () => {
    await put(FILE, { contentType: 'application/octet-stream' });
    const media = await open();
    media.body.destroy();
    expect(media.contentType).toBe('audio/mpeg');
  });
});

describe('an object is refused', () => {
  test('when it is not there, or its bucket is not', async () => {
    await expect(open()).rejects.toMatchObject({ slug: 'gcs-source-refused' });
    await expect(open({}, { bucket: 'no-such-bucket', key: 'a' })).rejects.toMatchObject({
      slug: 'gcs-source-refused',
    });
  });

  test.each([401, 403, 400])('when Cloud Storage says %d', async (status) => {
    await put(FILE);
    fake.inject({ kind: 'status', status });
    await expect(open()).rejects.toMatchObject({ slug: 'gcs-source-refused' });
  });

  test('when it is too large', async () => {
    await put(FILE);
    await expect(open({ maxBytes: FILE.length - 1 })).rejects.toMatchObject({ slug: 'media-too-large' });
  });

  test('when it is stored compressed', async () => {
    await put(FILE, { contentType: 'audio/mpeg', contentEncoding: 'gzip' });
    await expect(open()).rejects.toMatchObject({ slug: 'gcs-source-refused' });
  });
});

test('an abort ends it', async () => {
  await put(FILE);
  const abort = new AbortController();
  const media = await open({ signal: abort.signal });
  abort.abort(new Error('canceled'));
  await expect(buffer(media.body)).rejects.toThrow();
  await expect(open({ signal: abort.signal })).rejects.toThrow('canceled');
});
