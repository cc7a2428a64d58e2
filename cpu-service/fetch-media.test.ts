import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { Storage } from '@google-cloud/storage';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Blobs } from '../core/blobs/blobs.ts';
import { DiskBlobs } from '../core/blobs/disk-blobs.ts';
import { GcsBlobs } from '../core/blobs/gcs-blobs.ts';
import { parseNetworks } from '../core/link-guard.ts';
import { startFakeCloudStorage } from '../tests/support/fake-cloud-storage/fake-cloud-storage.ts';
import { type Answer, type FileAnswer, type Origin, sendFile, startOrigin } from '../tests/support/origin.ts';
import { waitFor } from '../tests/support/wait-for.ts';
import { type FetchCheckpoint, type FetchOptions, fetchMedia } from './fetch-media.ts';
import { openLink } from './open-link.ts';
import type { OpenRemote, RemoteMedia } from './remote-media.ts';

const KEY = 'media/local/tr_1/1.media';
const MIB = 1024 * 1024;
const FILE = randomBytes(3 * MIB + 12_345);
const PATIENCE = {
  tries: 3,
  restarts: 2,
  backoff: { minMs: 1, maxMs: 5, maxDoublings: 2 },
  maxWaitMs: 2_000,
  minProgressBytes: 1_000,
};

let folder: string;
let blobs: DiskBlobs;
let origin: Origin;
/** As the record would have it. */
let saved: FetchCheckpoint | null;
let signal: AbortSignal;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'fetch-'));
  blobs = new DiskBlobs(folder);
  saved = null;
  signal = new AbortController().signal;
});
afterEach(async () => {
  await origin?.close();
  await rm(folder, { recursive: true, force: true });
});

/** The n-th answer is sent as the n-th options say, and from then on as the last ones. */
const answers =
  (...list: FileAnswer[]): Answer =>
  (req, res, nth) =>
    sendFile(req, res, FILE, list[Math.min(nth, list.length) - 1]);

async function serve(answer: Answer): Promise<OpenRemote> {
  origin = await startOrigin(answer);
  return (from) =>
    openLink(`${origin.url}/talk.wav`, {
      ...from,
      networks: parseNetworks('127.0.0.1/32'),
      maxBytes: 10 * MIB,
      ca: origin.cert,
      limits: { connectMs: 1_000, headersMs: 300, idleMs: 300, minBytesPerIdle: 100 },
    });
}

function fetchFrom(open: OpenRemote, options: Partial<FetchOptions> = {}, store: Blobs = blobs) {
  const save = async (checkpoint: FetchCheckpoint) => {
    saved = checkpoint;
  };
  return fetchMedia(store, open, {
    key: KEY,
    checkpoint: saved,
    save,
    signal,
    patience: PATIENCE,
    ...options,
  });
}

const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

async function expectWhole(key = KEY): Promise<void> {
  expect(hash(await buffer(await blobs.read(key)))).toBe(hash(FILE));
  await expectNothingElse(1);
}

/** Neither a blob that nobody asked for, nor a part of one. */
async function expectNothingElse(files = 0): Promise<void> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  expect(entries.filter((entry) => entry.isFile()).map(({ name }) => name)).toHaveLength(files);
}

const ranges = () => origin.requests.map(({ headers }) => headers.range);

describe('media from a link', () => {
  test('is stored as it is, and seen only once it is whole', async () => {
    const progress: [number, number | null][] = [];
    const open = await serve(answers({}));
    const fetching = fetchFrom(open, {
      onProgress: (done, total) => progress.push([done, total]),
      onOpened: async ({ filename, contentType, sizeBytes }) => {
        expect(await blobs.stat(KEY)).toBeUndefined();
        expect({ filename, contentType, sizeBytes }).toEqual({
          filename: 'talk.wav',
          contentType: 'audio/wav',
          sizeBytes: FILE.length,
        });
      },
    });
    expect(await fetching).toEqual({ key: KEY, sizeBytes: FILE.length });
    await expectWhole();
    expect(progress.at(-1)).toEqual([FILE.length, FILE.length]);
    expect(progress.every(([done], index) => done > (progress[index - 1]?.[0] ?? 0))).toBe(true);
  });

  test('is taken up where the connection broke, again and again', async () => {
    const cut = { cutAfter: 500_000 };
    const open = await serve(answers(cut, cut, cut, cut, cut, {}));
    await fetchFrom(open);
    await expectWhole();
    expect(ranges()[0]).toBeUndefined();
    expect(ranges().slice(1)).toEqual(
      Array.from({ length: 5 }, () => expect.stringMatching(/^bytes=\d{5,}-$/)),
    );
  });

  test('is taken up where the connection broke in a bucket too', async () => {
    const cloud = await startFakeCloudStorage({ folder: path.join(folder, 'cloud'), buckets: ['bucket'] });
    try {
      const storage = new Storage({ apiEndpoint: cloud.url, projectId: 'project' });
      const bucket = new GcsBlobs(storage.bucket('bucket'));
      const open = await serve(answers({ cutAfter: 500_000 }, { cutAfter: MIB }, {}));
      await fetchFrom(open, {}, bucket);
      expect(hash(await buffer(await bucket.read(KEY)))).toBe(hash(FILE));
      expect(ranges().slice(1)).toEqual([
        expect.stringMatching(/^bytes=\d{5,}-$/),
        expect.stringMatching(/^bytes=\d{5,}-$/),
      ]);
      expect(cloud.leftovers()).toEqual([]);
    } finally {
      await cloud.close();
    }
  });

  test('is taken up by a later call', async () => {
    const open = await serve((req, res, nth) => {
      if (nth === 1) sendFile(req, res, FILE, { cutAfter: MIB });
      else if (nth <= 4) res.writeHead(503).end();
      else sendFile(req, res, FILE);
    });
    await expect(fetchFrom(open)).rejects.toMatchObject({ slug: 'link-unreachable' });
    expect(saved).not.toBeNull();
    expect(await fetchFrom(open, { key: 'media/local/tr_1/2.media' })).toEqual({
      key: KEY,
      sizeBytes: FILE.length,
    });
    await expectWhole();
    expect(Number(/\d+/.exec(ranges().at(-1) ?? '')?.[0])).toBeGreaterThan(MIB / 2);
  });

  test('is taken up after an abort in the middle', async () => {
    const abort = new AbortController();
    const open = await serve(answers({}));
    const onProgress = (done: number) => {
      if (done > MIB) abort.abort(new Error('time is up'));
    };
    await expect(fetchFrom(open, { signal: abort.signal, onProgress })).rejects.toThrow('time is up');
    expect(await blobs.stat(KEY)).toBeUndefined();
    await fetchFrom(open);
    await expectWhole();
    expect(ranges()[1]).toMatch(/^bytes=\d{5,}-$/);
  });

  test('that was whole already is not asked for again', async () => {
    const open = await serve(answers({}));
    await fetchFrom(open);
    expect(await fetchFrom(open)).toEqual({ key: KEY, sizeBytes: FILE.length });
    expect(origin.requests).toHaveLength(1);
  });

  test('begins anew when what had arrived is gone', async () => {
    const open = await serve((req, res, nth) => {
      if (nth === 1) sendFile(req, res, FILE, { cutAfter: MIB });
      else if (nth === 2) res.writeHead(503, { 'retry-after': '600' }).end();
      else sendFile(req, res, FILE);
    });
    await expect(fetchFrom(open)).rejects.toMatchObject({ slug: 'link-unreachable' });
    await blobs.cancelPartial(saved?.partial as never);
    await fetchFrom(open);
    await expectWhole();
    expect(ranges()[2]).toBeUndefined();
  });

  test('begins anew when the content has changed in the middle', async () => {
    const other = Buffer.concat([randomBytes(MIB), FILE]);
    const open = await serve((req, res, nth) => {
      if (nth === 1) sendFile(req, res, other, { cutAfter: MIB });
      else sendFile(req, res, FILE, { etag: '"2"' });
    });
    await fetchFrom(open);
    await expectWhole();
    expect(saved?.validator).toBe('"2"');
  });

  test('begins anew when the content has changed before any of it had arrived', async () => {
    const open = await serve((req, res, nth) => {
      if (nth > 1) return sendFile(req, res, FILE, { etag: '"2"' });
      const headers = { 'content-type': 'audio/wav', 'content-length': FILE.length, etag: '"1"' };
      res.writeHead(200, headers).flushHeaders();
      setTimeout(() => res.destroy(), 50);
    });
    await fetchFrom(open);
    await expectWhole();
    expect(saved?.validator).toBe('"2"');
  });

  test('begins anew where the origin knows no ranges', async () => {
    const open = await serve(answers({ cutAfter: MIB }, { ignoresRange: true }));
    await fetchFrom(open);
    await expectWhole();
  });

  test('is given up when it changes all the time', async () => {
    const open = await serve((req, res, nth) =>
      sendFile(req, res, FILE, { etag: `"${nth}"`, cutAfter: 10_000 * nth }),
    );
    await expect(fetchFrom(open)).rejects.toMatchObject({ slug: 'link-unreachable' });
    expect(origin.requests.length).toBeLessThan(10);
  });

  test('is given up when nothing new arrives', async () => {
    const open = await serve((req, res, nth) => sendFile(req, res, FILE, { cutAfter: nth === 1 ? MIB : 10 }));
    await expect(fetchFrom(open)).rejects.toMatchObject({ slug: 'link-unreachable' });
    expect(origin.requests).toHaveLength(4);
  });

  test('is asked for again after an error of the origin', async () => {
    const open = await serve((req, res, nth) => {
      if (nth === 1) res.writeHead(500).end();
      else sendFile(req, res, FILE);
    });
    await fetchFrom(open);
    await expectWhole();
  });

  test('is asked for again when the origin wants it, if that is soon', async () => {
    const open = await serve((req, res, nth) => {
      if (nth === 1) res.writeHead(429, { 'retry-after': '1' }).end();
      else sendFile(req, res, FILE);
    });
    const sinceMs = performance.now();
    await fetchFrom(open);
    expect(performance.now() - sinceMs).toBeGreaterThan(990);
    await expectWhole();
  });

  test('is left to the queue when the origin wants a long pause', async () => {
    const open = await serve((_req, res) => void res.writeHead(503, { 'retry-after': '600' }).end());
    await expect(fetchFrom(open)).rejects.toMatchObject({ slug: 'link-unreachable' });
    expect(origin.requests).toHaveLength(1);
  });

  test.each([401, 403, 404])('that is refused (%d) is not asked for again', async (status) => {
    const open = await serve((_req, res) => void res.writeHead(status).end());
    await expect(fetchFrom(open)).rejects.toMatchObject({ slug: 'link-failed' });
    expect(origin.requests).toHaveLength(1);
    await expectNothingElse();
  });

  test('that is refused in the middle leaves nothing behind', async () => {
    const open = await serve((req, res, nth) => {
      if (nth === 1) sendFile(req, res, FILE, { cutAfter: MIB });
      else res.writeHead(403).end();
    });
    await expect(fetchFrom(open)).rejects.toMatchObject({ slug: 'link-failed' });
    await expectNothingElse();
  });

  test('shorter than was announced is not taken for whole', async () => {
    const open = await serve((_req, res) => {
      res.writeHead(200, { 'content-type': 'audio/wav', 'content-length': FILE.length + 1, etag: '"1"' });
      res.write(FILE, () => setTimeout(() => res.destroy(), 20));
    });
    await expect(fetchFrom(open)).rejects.toMatchObject({ slug: 'link-unreachable' });
    expect(await blobs.stat(KEY)).toBeUndefined();
  });

  test('longer than was announced is cut, as HTTP has it', async () => {
    const open = await serve((req) => {
      const head = `HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\netag: "1"\r\ncontent-length: ${FILE.length}\r\n\r\n`;
      req.socket.write(head);
      req.socket.end(Buffer.concat([FILE, Buffer.alloc(10_000)]));
    });
    await fetchFrom(open);
    await expectWhole();
  });

  test('with a part that is longer than it says it is, is given up', async () => {
    const open = await serve((req, res, nth) => {
      if (nth === 1) sendFile(req, res, FILE, { cutAfter: MIB });
      else {
        const start = Number(/\d+/.exec(req.headers.range ?? '')?.[0]);
        const range = `bytes ${start}-${FILE.length - 1}/${FILE.length}`;
        res.writeHead(206, { 'content-type': 'audio/wav', etag: '"1"', 'content-range': range });
        res.end(Buffer.concat([FILE.subarray(start), Buffer.alloc(100_000)]));
      }
    });
    await expect(fetchFrom(open)).rejects.toMatchObject({ slug: 'link-failed' });
    await expectNothingElse();
  });

  test('that comes in smaller parts than were asked for arrives all the same', async () => {
    const open = await serve((req, res, nth) => {
      // On a busy machine the first answer may break before a byte of it is stored: then all is asked for again.
      if (req.headers.range === undefined) return sendFile(req, res, FILE, { cutAfter: nth * 100_000 });
      const start = Number(/\d+/.exec(req.headers.range ?? '')?.[0]);
      const end = Math.min(start + MIB, FILE.length);
      const range = `bytes ${start}-${end - 1}/${FILE.length}`;
      res.writeHead(206, { 'content-type': 'audio/wav', etag: '"1"', 'content-range': range });
      res.end(FILE.subarray(start, end));
    });
    await fetchFrom(open);
    await expectWhole();
  });

  test('of unknown size is stored in one go, and begins anew when it breaks', async () => {
    const progress: (number | null)[] = [];
    const open = await serve((_req, res, nth) => {
      res.writeHead(200, { 'content-type': 'audio/wav', etag: '"1"' });
      if (nth === 1) res.write(FILE.subarray(0, MIB), () => setTimeout(() => res.destroy(), 20));
      else {
        res.write(FILE.subarray(0, MIB));
        res.end(FILE.subarray(MIB));
      }
    });
    const fetched = await fetchFrom(open, { onProgress: (_done, total) => progress.push(total) });
    expect(fetched).toEqual({ key: KEY, sizeBytes: FILE.length });
    await expectWhole();
    expect(saved).toBeNull();
    expect(new Set(progress)).toEqual(new Set([null]));
  });

  test('without a validator is stored in one go too: nobody could tell the second half', async () => {
    const open = await serve((_req, res) => {
      res.writeHead(200, { 'content-type': 'audio/wav', 'content-length': FILE.length }).end(FILE);
    });
    await fetchFrom(open);
    await expectWhole();
    expect(saved).toBeNull();
  });

  test.each([
    ['says so', { 'content-length': 0, etag: '"1"' }],
    ['does not say so', {}],
  ])('that is empty and %s is refused', async (_, headers) => {
    const open = await serve((_req, res) => {
      res.writeHead(200, { 'content-type': 'audio/wav', ...headers }).flushHeaders();
      res.end();
    });
    await expect(fetchFrom(open)).rejects.toMatchObject({ slug: 'media-empty' });
    await expectNothingElse();
  });

  test('that goes on for ever leaves nothing behind', async () => {
    const open = await serve((_req, res) => {
      res.writeHead(200, { 'content-type': 'audio/wav', etag: '"1"' });
      const more = () => {
        while (!res.destroyed && res.write(Buffer.alloc(64 * 1024)));
      };
      res.on('drain', more);
      more();
    });
    await expect(fetchFrom(open)).rejects.toMatchObject({ slug: 'media-too-large' });
    await expectNothingElse();
  });
});

describe('what goes wrong', () => {
  const media = (body: Readable): RemoteMedia => ({
    body,
    sizeBytes: 8,
    validator: '1',
    contentType: 'audio/wav',
    filename: null,
    startsAt: 0,
  });

  test('with the connection does not matter once all has arrived', async () => {
    const open = async () => {
      const body = Readable.from(
        (async function* () {
          yield Buffer.from('12345678');
          // A stream that fails drops what nobody has taken yet.
          await waitFor('the file', async () => (await blobs.storedBytes(saved?.partial as never)) === 8);
          throw new Error('broken after the last byte');
        })(),
      );
      return media(body);
    };
    expect(await fetchFrom(open, { patience: { ...PATIENCE, tries: 1 } })).toEqual({
      key: KEY,
      sizeBytes: 8,
    });
  });

  test('is told as it is, and not held against the origin', async () => {
    const full = Object.assign(Object.create(blobs) as DiskBlobs, {
      startPartial: async () => Promise.reject(Object.assign(new Error('no space'), { code: 'ENOSPC' })),
    });
    const body = Readable.from([Buffer.from('12345678')]);
    await expect(fetchFrom(async () => media(body), {}, full)).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(body.destroyed).toBe(true);
  });

  test('leaves nothing behind when the checkpoint cannot be saved', async () => {
    const save = async () => Promise.reject(new Error('the lease is lost'));
    const open = async () => media(Readable.from([Buffer.from('12345678')]));
    await expect(fetchFrom(open, { save })).rejects.toThrow('the lease is lost');
    await expectNothingElse();
  });

  test('goes on when another worker has added to it meanwhile', async () => {
    const bytes = Buffer.from('12345678');
    let opened = 0;
    const open: OpenRemote = async ({ startAt }) => {
      opened++;
      if (opened === 2)
        await blobs.appendPartial(
          saved?.partial as never,
          startAt,
          Readable.from([bytes.subarray(startAt, 6)]),
        );
      const end = opened === 1 ? 4 : 8;
      return { ...media(Readable.from([bytes.subarray(startAt, end)])), startsAt: startAt };
    };
    await fetchFrom(open, { patience: { ...PATIENCE, minProgressBytes: 1 } });
    expect(await buffer(await blobs.read(KEY))).toEqual(bytes);
    expect(opened).toBe(3);
  });
});
