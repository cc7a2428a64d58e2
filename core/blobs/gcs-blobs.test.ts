import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { Storage } from '@google-cloud/storage';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  type FakeCloudStorage,
  startFakeCloudStorage,
} from '../../tests/support/fake-cloud-storage/fake-cloud-storage.ts';
import {
  type FakeGcsServer,
  findFakeGcsServer,
  startFakeGcsServer,
} from '../../tests/support/fake-gcs-server.ts';
import type { Patience } from '../cloud-storage/gcs-api.ts';
import { describeBlobs, failingBody, listKeys } from './blobs.contract.ts';
import { BlobNotFound, type PartialBlob } from './blobs.ts';
import { GcsBlobs } from './gcs-blobs.ts';

const TEXT = { contentType: 'text/plain' };
const MIB = 1024 * 1024;

/** Loses no time over the failures that these tests cause. */
const IMPATIENT: Patience = {
  attemptMs: 1_000,
  totalMs: 15_000,
  minBytesPerMs: 4 * 1024,
  backoff: { minMs: 5, maxMs: 20, maxDoublings: 3 },
};

function openBlobs(url: string, bucket: string, options: ConstructorParameters<typeof GcsBlobs>[1] = {}) {
  const storage = new Storage({ apiEndpoint: url, projectId: 'project' });
  return new GcsBlobs(storage.bucket(bucket), options);
}

describeBlobs('GcsBlobs', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'gcs-blobs-'));
  const fake = await startFakeCloudStorage({ folder, buckets: ['bucket'] });
  return {
    blobs: openBlobs(fake.url, 'bucket'),
    reopen: () => openBlobs(fake.url, 'bucket'),
    expectNothingLeftBehind: async () => {
      expect(fake.leftovers()).toEqual([]);
      const keys = await listKeys(openBlobs(fake.url, 'bucket'), '');
      expect(keys.filter((key) => key.endsWith('.tail'))).toEqual([]);
    },
    dispose: async () => {
      await fake.close();
      await rm(folder, { recursive: true });
    },
  };
});

const binary = await findFakeGcsServer();
(binary === undefined ? describe.skip : describe)('against fake-gcs-server', () => {
  let server: FakeGcsServer;
  beforeAll(async () => {
    server = await startFakeGcsServer(binary ?? '');
  });
  afterAll(() => server.stop());

  describeBlobs(
    'GcsBlobs',
    async () => {
      const bucket = crypto.randomUUID();
      await server.createBucket(bucket);
      return {
        blobs: openBlobs(server.url, bucket),
        reopen: () => openBlobs(server.url, bucket),
        expectNothingLeftBehind: async () => {}, // It keeps canceled sessions, and does not show them.
        dispose: async () => {},
      };
    },
    {
      excused: {
        'passes a big body through memory that does not grow with it': 'it copies all of it for every chunk',
        'a partial blob': 'to be asked how much it has ends a session',
      },
    },
  );
});

describe('GcsBlobs', () => {
  let folder: string;
  let fake: FakeCloudStorage;
  let blobs: GcsBlobs;

  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'gcs-blobs-'));
    fake = await startFakeCloudStorage({ folder, buckets: ['bucket'] });
    blobs = openBlobs(fake.url, 'bucket', { patience: IMPATIENT });
  });
  afterEach(async () => {
    const leftovers = fake.leftovers();
    await fake.close();
    await rm(folder, { recursive: true });
    expect(leftovers).toEqual([]);
  });

  const operations = () => fake.requests.map(({ operation }) => operation);
  /** Three chunks, the last one not full. */
  const BIG = Buffer.alloc(10 * MIB, createHash('sha256').update('big').digest());
  const bigBody = () => Readable.from(piecesOf(BIG, 100_000), { objectMode: false });

  test('a body that fits a chunk is one request, whether its size was known or not', async () => {
    await blobs.write('a', 'text', TEXT);
    await blobs.write('b', Readable.from([Buffer.from('te'), Buffer.from('xt')]), TEXT);
    expect(operations()).toEqual(['insert', 'insert']);
  });

  test('a longer one is a session of chunks, of which the last one says the size', async () => {
    await blobs.write('a', bigBody(), TEXT);
    expect(operations()).toEqual(['start-session', 'put-session', 'put-session', 'put-session']);
    const ranges = fake.requests.flatMap(({ contentRange }) => contentRange ?? []);
    expect(ranges).toEqual([
      `bytes 0-${4 * MIB - 1}/*`,
      `bytes ${4 * MIB}-${8 * MIB - 1}/*`,
      `bytes ${8 * MIB}-${10 * MIB - 1}/${10 * MIB}`,
    ]);
    expect((await buffer(await blobs.read('a'))).equals(BIG)).toBe(true);
  });

  test.each([
    ['ends where a chunk ends', 8 * MIB],
    ['has one byte more than a chunk', 4 * MIB + 1],
    ['comes in pieces bigger than a chunk', 0],
  ])('a stream that %s arrives whole', async (_, sizeBytes) => {
    const bytes = BIG.subarray(0, sizeBytes || BIG.length);
    const body = Readable.from(piecesOf(bytes, sizeBytes === 0 ? 9 * MIB : 1 * MIB), { objectMode: false });
    expect(await blobs.write('a', body, TEXT)).toMatchObject({ sizeBytes: bytes.length });
    expect((await buffer(await blobs.read('a'))).equals(bytes)).toBe(true);
  });

  test('every write carries a precondition, also one that replaces', async () => {
    await blobs.write('a', bigBody(), TEXT);
    await blobs.write('a', bigBody(), TEXT);
    await blobs.write('a', 'text', TEXT);
    const writes = fake.requests.filter(({ operation }) => ['insert', 'start-session'].includes(operation));
    expect(writes.map(({ status }) => status)).toEqual([200, 412, 200, 412, 200]);
    expect(writes.every(({ query }) => query.ifGenerationMatch !== undefined)).toBe(true);
    expect(await text(await blobs.read('a'))).toBe('text');
  });

  describe('writes a big stream in spite of', () => {
    test.each([
      ['a refused start', { kind: 'status', status: 503, operation: 'start-session' }],
      ['a lost reply to the start', { kind: 'lose-reply', operation: 'start-session' }],
      ['a refused chunk', { kind: 'status', status: 429, operation: 'put-session', after: 1, times: 2 }],
      ['a chunk that breaks off', { kind: 'break', operation: 'put-session', after: 1, afterBytes: 3 * MIB }],
      ['a first chunk that breaks off at once', { kind: 'break', operation: 'put-session', afterBytes: 10 }],
      ['a chunk that stalls', { kind: 'stall', operation: 'put-session', after: 1 }],
      ['a lost reply to a chunk', { kind: 'lose-reply', operation: 'put-session', after: 1 }],
      ['a lost reply to the last chunk', { kind: 'lose-reply', operation: 'put-session', after: 2 }],
      [
        'a last chunk that breaks off',
        { kind: 'break', operation: 'put-session', after: 2, afterBytes: MIB },
      ],
      [
        'a store that is asked in vain where it was',
        { kind: 'status', status: 503, operation: 'put-session', after: 1, times: 4 },
      ],
    ] as const)('%s', async (_, fault) => {
      const stops = fault.operation === 'start-session' && fault.kind === 'lose-reply';
      fake.inject({ ...fault });
      expect(await blobs.write('a', bigBody(), TEXT)).toMatchObject({ sizeBytes: BIG.length });
      expect((await buffer(await blobs.read('a'))).equals(BIG)).toBe(true);
      expect(await listKeys(blobs, '')).toEqual(['a']);
      // A session whose address never arrived cannot be canceled. It is invisible, and goes after a week.
      if (stops) await forgetSessions();
    });

    test('a restart of the store between two chunks', async () => {
      const port = Number(new URL(fake.url).port);
      let restarted = false;
      const body = Readable.from(
        (async function* () {
          for (const piece of piecesOf(BIG, MIB)) {
            if (
              !restarted &&
              fake.requests.filter(({ operation }) => operation === 'put-session').length === 1
            ) {
              restarted = true;
              await fake.close();
              fake = await startFakeCloudStorage({ folder, port });
            }
            yield piece;
          }
        })(),
        { objectMode: false },
      );
      await blobs.write('a', body, TEXT);
      expect(restarted).toBe(true);
      expect((await buffer(await blobs.read('a'))).equals(BIG)).toBe(true);
    });
  });

  test('after a chunk that broke off it asks what has arrived, and sends only the rest', async () => {
    fake.inject({ kind: 'break', operation: 'put-session', after: 1, afterBytes: 3 * MIB });
    await blobs.write('a', bigBody(), TEXT);
    const ranges = fake.requests.flatMap(({ contentRange }) => contentRange ?? []);
    expect(ranges.slice(1, 4)).toEqual([
      `bytes ${4 * MIB}-${8 * MIB - 1}/*`,
      'bytes */*',
      `bytes ${7 * MIB}-${8 * MIB - 1}/*`,
    ]);
  });

  test.each(['lose-reply', 'stall', 'break', 'late'] as const)(
    'writes a small body once in spite of a %s',
    async (kind) => {
      await blobs.write('a', 'old', TEXT);
      fake.inject({ kind, operation: 'insert', ms: 400, afterBytes: 20 });
      const info = await blobs.write('a', 'new', TEXT);
      expect(await blobs.stat('a')).toEqual(info);
      await blobs.write('a', 'newer', TEXT);
      if (kind === 'late') await until(() => fake.requests.some(({ fault }) => fault === 'late'));
      expect(await text(await blobs.read('a'))).toBe('newer');
    },
  );

  test('a canceled or failed stream leaves no session behind', async () => {
    await blobs.write('a', 'old', TEXT);
    const failing = Readable.from(
      (async function* () {
        yield BIG;
        throw new Error('the client left');
      })(),
      { objectMode: false },
    );
    await expect(blobs.write('a', failing, TEXT)).rejects.toThrow('the client left');
    const controller = new AbortController();
    const endless = Readable.from(
      (function* () {
        for (;;) yield Buffer.alloc(MIB);
      })(),
      { objectMode: false },
    );
    const writing = blobs.write('a', endless, { ...TEXT, signal: controller.signal });
    await until(() => operations().filter((operation) => operation === 'put-session').length >= 4);
    controller.abort(new Error('asked to stop'));
    await expect(writing).rejects.toThrow('asked to stop');
    expect(operations().filter((operation) => operation === 'cancel-session')).toHaveLength(2);
    expect(await text(await blobs.read('a'))).toBe('old');
  });

  test('an abort does not wait for a chunk that stalls', async () => {
    const patient = openBlobs(fake.url, 'bucket');
    fake.inject({ kind: 'stall', operation: 'put-session' });
    const controller = new AbortController();
    const writing = patient.write('a', bigBody(), { ...TEXT, signal: controller.signal });
    await until(() => operations().includes('start-session'));
    setTimeout(() => controller.abort(new Error('asked to stop')), 20);
    await expect(writing).rejects.toThrow('asked to stop');
  });

  test('a big stream that loses a race fails, and the winner stays', async () => {
    const body = Readable.from(
      (async function* () {
        yield* piecesOf(BIG, MIB);
        await blobs.write('a', 'faster', TEXT);
      })(),
      { objectMode: false },
    );
    await expect(blobs.write('a', body, TEXT)).rejects.toMatchObject({ status: 412 });
    expect(await text(await blobs.read('a'))).toBe('faster');
  });

  test.each([
    ['a small body', 'insert', 'text'],
    ['a big stream', 'put-session', undefined],
  ] as const)('%s that is not stored as it was sent is removed', async (_, operation, body) => {
    fake.inject({ kind: 'corrupt', operation, times: 10 });
    await expect(blobs.write('a', body ?? bigBody(), TEXT)).rejects.toThrow('not stored as it was sent');
    expect(await blobs.stat('a')).toBeUndefined();
  });

  test('a corrupt blob is not removed when another one has taken its place', async () => {
    fake.inject({ kind: 'corrupt', operation: 'insert' });
    fake.inject({ kind: 'late', ms: 60, operation: 'delete' });
    const writing = blobs.write('a', 'text', TEXT);
    await until(() => operations().includes('insert'));
    await blobs.write('a', 'another', TEXT);
    await expect(writing).rejects.toThrow('not stored as it was sent');
    expect(await text(await blobs.read('a'))).toBe('another');
  });

  describe('reads', () => {
    beforeEach(() => blobs.write('a', bigBody(), TEXT).then(() => {}));

    test.each([
      ['refused', { kind: 'status', status: 503, times: 3 }],
      ['stalled', { kind: 'stall', times: 1 }],
      ['broken off, again and again', { kind: 'break', afterBytes: 2 * MIB, times: 4 }],
      ['broken off before its first byte', { kind: 'break', afterBytes: 0, times: 3 }],
      ['too short without saying so', { kind: 'truncate', afterBytes: 3 * MIB, times: 2 }],
    ] as const)('all of a download that is %s', async (_, fault) => {
      fake.inject({ ...fault, operation: 'download' });
      expect((await buffer(await blobs.read('a'))).equals(BIG)).toBe(true);
      fake.inject({ ...fault, operation: 'download' });
      const part = await buffer(await blobs.read('a', { start: 1_000, end: 9 * MIB }));
      expect(part.equals(BIG.subarray(1_000, 9 * MIB + 1))).toBe(true);
      fake.clearFaults();
    });

    test('nothing of another blob that has taken the place of a broken one', async () => {
      fake.inject({ kind: 'break', afterBytes: 2 * MIB, operation: 'download' });
      const stream = await blobs.read('a');
      await blobs.write('a', bigBody(), TEXT);
      await expect(buffer(stream)).rejects.toThrow('replaced or deleted while it was read');
    });

    test('nothing that is not what was stored, without an error', async () => {
      fake.inject({ kind: 'corrupt', operation: 'download' });
      await expect(buffer(await blobs.read('a'))).rejects.toThrow('did not arrive as it is stored');
    });

    test('until it gives up', async () => {
      const hasty = openBlobs(fake.url, 'bucket', { patience: { ...IMPATIENT, totalMs: 100 } });
      fake.inject({ kind: 'break', afterBytes: 0, operation: 'download', times: 1_000 });
      await expect(buffer(await hasty.read('a'))).rejects.toThrow('broke');
      fake.clearFaults();
    });

    test('no further when nobody wants it', async () => {
      const stream = await blobs.read('a');
      for await (const _ of stream) break;
      expect(stream.destroyed).toBe(true);
      await until(() => operations().includes('download'));
    });

    test('nothing beyond the end', async () => {
      expect(await buffer(await blobs.read('a', { start: BIG.length }))).toHaveLength(0);
    });
  });

  test('a delete that arrives late does not take what was written since', async () => {
    await blobs.write('a', 'old', TEXT);
    fake.inject({ kind: 'late', ms: 400, operation: 'delete' });
    await blobs.delete('a');
    await blobs.write('a', 'new', TEXT);
    await until(() => fake.requests.some(({ fault }) => fault === 'late'));
    expect(await text(await blobs.read('a'))).toBe('new');
  });

  test('deletes a prefix of many, some at a time, in spite of refusals', async () => {
    const keys = Array.from({ length: 60 }, (_, i) => `p/${i}`);
    await Promise.all([...keys, 'q'].map((key) => blobs.write(key, 'x', TEXT)));
    fake.inject({ kind: 'status', status: 429, operation: 'delete', times: 20 });
    await blobs.deletePrefix('p/');
    expect(await listKeys(blobs, '')).toEqual(['q']);
  });

  test('fails after a failing body although the store refuses the end of the session', async () => {
    fake.inject({ kind: 'status', status: 503, operation: 'cancel-session', times: 10 });
    await expect(blobs.write('a', failingBody(new Error('the client left')), TEXT)).rejects.toThrow(
      'the client left',
    );
  });

  describe('a partial blob', () => {
    const key = 'uploads/a';
    const start = (origin?: string) =>
      blobs.startPartial(key, {
        ...TEXT,
        sizeBytes: BIG.length,
        ...(origin === undefined ? {} : { origin }),
      });
    const append = (partial: PartialBlob, at: number, end = BIG.length) => {
      const body = Readable.from(piecesOf(BIG.subarray(at, end), 100_000), { objectMode: false });
      return blobs.appendPartial(partial, at, body);
    };
    const isWhole = async () => (await buffer(await blobs.read(key))).equals(BIG);
    const GRAIN = 256 * 1024;

    test('is one session of whole grains, and a tail for what is no whole one', async () => {
      const partial = await start();
      await append(partial, 0, 2 * GRAIN + 10);
      expect(await listKeys(blobs, '')).toEqual([expect.stringMatching(/^uploads\/a\.[0-9a-f]{16}\.tail$/)]);
      await append(partial, 2 * GRAIN + 10);
      expect(await listKeys(blobs, '')).toEqual([key]);
      const ranges = fake.requests.flatMap(({ contentRange }) => contentRange ?? []);
      expect(ranges.filter((range) => !range.includes('*'))).toEqual([
        `bytes 0-${2 * GRAIN - 1}/${10 * MIB}`,
        `bytes ${2 * GRAIN}-${4 * MIB + 2 * GRAIN - 1}/${10 * MIB}`,
        `bytes ${4 * MIB + 2 * GRAIN}-${8 * MIB + 2 * GRAIN - 1}/${10 * MIB}`,
        `bytes ${8 * MIB + 2 * GRAIN}-${10 * MIB - 1}/${10 * MIB}`,
      ]);
      expect(await isWhole()).toBe(true);
    });

    test('has the type that was said, and lets the page send to it that was named', async () => {
      const partial = await start('https://page.example');
      const sent = await fetch(partial.session, { method: 'PUT', body: BIG });
      expect(sent.headers.get('access-control-allow-origin')).toBe('https://page.example');
      expect(await sent.json()).toMatchObject({ size: String(BIG.length) });
      expect(await blobs.storedBytes(partial)).toBe(BIG.length);
      const stored = await fetch(`${fake.url}/storage/v1/b/bucket/o/${encodeURIComponent(key)}`);
      expect(await stored.json()).toMatchObject({ contentType: 'text/plain' });
    });

    test.each([
      ['more', BIG.length + 1],
      ['less', BIG.length - 1],
    ])('takes from another sender not %s than was said', async (_, sizeBytes) => {
      const partial = await start();
      const headers = { 'content-range': `bytes 0-${sizeBytes - 1}/${sizeBytes}` };
      const body = Buffer.alloc(sizeBytes);
      expect((await fetch(partial.session, { method: 'PUT', headers, body })).status).toBe(400);
      expect(await blobs.stat(key)).toBeUndefined();
      expect(await blobs.storedBytes(partial)).toBeLessThan(BIG.length);
      await blobs.cancelPartial(partial);
    });

    test.each([
      ['a refused start', { kind: 'status', status: 503, operation: 'start-session' }],
      ['a refused question', { kind: 'status', status: 503, operation: 'put-session', times: 2 }],
      ['a refused chunk', { kind: 'status', status: 429, operation: 'put-session', after: 2, times: 2 }],
      ['a chunk that breaks off', { kind: 'break', operation: 'put-session', after: 4, afterBytes: 3 * MIB }],
      ['a chunk that stalls', { kind: 'stall', operation: 'put-session', after: 4 }],
      ['a lost reply to a chunk', { kind: 'lose-reply', operation: 'put-session', after: 4 }],
      ['a lost reply to the last chunk', { kind: 'lose-reply', operation: 'put-session', after: 5 }],
      [
        'a last chunk that breaks off',
        { kind: 'break', operation: 'put-session', after: 5, afterBytes: MIB },
      ],
      ['a refused tail', { kind: 'status', status: 503, operation: 'insert', times: 2 }],
      ['a lost reply to a tail', { kind: 'lose-reply', operation: 'insert' }],
      ['a tail that is not read', { kind: 'break', operation: 'download', afterBytes: 5 }],
      ['a tail that is not removed at once', { kind: 'status', status: 503, operation: 'delete', times: 2 }],
    ] as const)('arrives in spite of %s', async (_, fault) => {
      fake.inject({ ...fault });
      const partial = await start();
      expect(await append(partial, 0, GRAIN + 10)).toBe(GRAIN + 10);
      expect(await append(partial, GRAIN + 10)).toBe(BIG.length);
      await until(() => fake.requests.some((request) => request.fault === fault.kind));
      expect(await isWhole()).toBe(true);
      expect(await listKeys(blobs, '')).toEqual([key]);
    });

    test('goes on where it was when the store was away for longer than anybody waits', async () => {
      const hasty = openBlobs(fake.url, 'bucket', { patience: { ...IMPATIENT, totalMs: 50 } });
      const partial = await start();
      fake.inject({ kind: 'status', status: 503, operation: 'put-session', after: 2, times: 1_000 });
      await expect(hasty.appendPartial(partial, 0, bigBody())).rejects.toMatchObject({ status: 503 });
      fake.clearFaults();
      expect(await blobs.storedBytes(partial)).toBe(4 * MIB);
      await append(partial, 4 * MIB);
      expect(await isWhole()).toBe(true);
    });

    test('keeps the tail of the faster of two, and the slower one hears of it', async () => {
      const partial = await start();
      const body = new PassThrough();
      const slow = blobs.appendPartial(partial, 0, body);
      body.write(BIG.subarray(0, 10));
      await until(() => body.readableLength === 0);
      expect(await append(partial, 0, 20)).toBe(20);
      body.end();
      await expect(slow).rejects.toMatchObject({ name: 'PartialConflict', storedBytes: 20 });
      expect(await blobs.storedBytes(partial)).toBe(20);
      await blobs.cancelPartial(partial);
    });

    test('keeps its tail as it is when nothing came', async () => {
      const partial = await start();
      await append(partial, 0, 10);
      expect(await append(partial, 10, 10)).toBe(10);
      expect(operations().filter((operation) => operation === 'insert')).toHaveLength(1);
      await blobs.cancelPartial(partial);
    });

    test('takes nothing behind a tail that was read wrong', async () => {
      const partial = await start();
      await append(partial, 0, GRAIN + 10);
      fake.inject({ kind: 'corrupt', operation: 'download' });
      await expect(append(partial, GRAIN + 10)).rejects.toThrow('did not arrive as it is stored');
      expect(await blobs.storedBytes(partial)).toBe(GRAIN + 10);
      await append(partial, GRAIN + 10);
      expect(await isWhole()).toBe(true);
    });

    test('has no tail that another has overtaken', async () => {
      const partial = await start();
      await append(partial, 0, GRAIN + 10);
      const headers = { 'content-range': `bytes ${GRAIN}-${2 * GRAIN - 1}/${BIG.length}` };
      await fetch(partial.session, { method: 'PUT', headers, body: BIG.subarray(GRAIN, 2 * GRAIN) });
      expect(await blobs.storedBytes(partial)).toBe(2 * GRAIN);
      await append(partial, 2 * GRAIN);
      expect(await isWhole()).toBe(true);
      expect(await listKeys(blobs, '')).toEqual([key]);
    });

    test('that another has ended meanwhile is a conflict', async () => {
      const partial = await start();
      const body = Readable.from(
        (async function* () {
          yield* piecesOf(BIG.subarray(0, 5 * MIB), MIB);
          await append(partial, 4 * MIB);
          yield* piecesOf(BIG.subarray(5 * MIB), MIB);
        })(),
        { objectMode: false, highWaterMark: 1 },
      );
      await expect(blobs.appendPartial(partial, 0, body)).rejects.toMatchObject({
        name: 'PartialConflict',
        storedBytes: BIG.length,
      });
      expect(await isWhole()).toBe(true);
    });

    test('does not take the place of what another has put at its key meanwhile', async () => {
      const partial = await start();
      await append(partial, 0, 4 * MIB);
      await blobs.write(key, 'another', TEXT);
      await expect(append(partial, 4 * MIB)).rejects.toMatchObject({ status: 412 });
      expect(await text(await blobs.read(key))).toBe('another');
      await blobs.cancelPartial(partial);
    });

    test('is gone after a week', async () => {
      const partial = await start();
      await append(partial, 0, 10);
      await blobs.cancelPartial(await start());
      fake.setClockOffset(8 * 24 * 60 * 60 * 1_000);
      expect(await blobs.storedBytes(partial)).toBeUndefined();
      await expect(append(partial, 10)).rejects.toBeInstanceOf(BlobNotFound);
      fake.setClockOffset(0);
      await blobs.cancelPartial(partial);
    });

    test('is canceled in spite of refusals, and not silently when they do not end', async () => {
      const partial = await start();
      await append(partial, 0, 10);
      fake.inject({ kind: 'status', status: 503, operation: ['cancel-session', 'delete'], times: 3 });
      await blobs.cancelPartial(partial);
      expect(await listKeys(blobs, '')).toEqual([]);
      fake.inject({ kind: 'status', status: 403, operation: 'cancel-session' });
      const other = await start();
      await expect(blobs.cancelPartial(other)).rejects.toMatchObject({ status: 403 });
      await blobs.cancelPartial(other);
    });
  });

  describe('copies', () => {
    beforeEach(() => blobs.write('a', 'text', TEXT).then(() => {}));

    test('within the store, under a precondition, and with the type', async () => {
      await blobs.copy('a', 'b');
      expect(operations()).toEqual(['insert', 'get', 'get', 'copy']);
      expect(fake.requests.at(-1)?.query.ifGenerationMatch).toBe('0');
      const stored = await fetch(`${fake.url}/storage/v1/b/bucket/o/b`);
      expect(await stored.json()).toMatchObject({ contentType: 'text/plain', size: '4' });
    });

    test.each([
      ['a refusal', { kind: 'status', status: 503, times: 2 }],
      ['a lost reply', { kind: 'lose-reply' }],
    ] as const)('in spite of %s', async (_, fault) => {
      fake.inject({ ...fault, operation: 'copy' });
      expect(await blobs.copy('a', 'b')).toEqual(await blobs.stat('b'));
      expect(await text(await blobs.read('b'))).toBe('text');
    });

    test('what is there, when it was replaced between two requests', async () => {
      fake.inject({ kind: 'late', ms: 100, operation: 'copy' });
      const copying = blobs.copy('a', 'b');
      await until(() => operations().filter((operation) => operation === 'get').length === 2);
      await blobs.write('a', 'new', TEXT);
      await copying;
      expect(await text(await blobs.read('b'))).toBe('new');
    });

    test('in as many calls as the store wants', async () => {
      await fake.close();
      fake = await startFakeCloudStorage({ folder, bytesPerRewrite: 1 });
      expect(await openBlobs(fake.url, 'bucket').copy('a', 'b')).toMatchObject({ key: 'b', sizeBytes: 4 });
      expect(operations()).toEqual(['get', 'get', 'copy', 'copy', 'copy', 'copy']);
      blobs = openBlobs(fake.url, 'bucket');
      expect(await text(await blobs.read('b'))).toBe('text');
    });
  });

  test('has a local path only where the bucket is mounted, and none outside', () => {
    expect(blobs.localPath).toBeUndefined();
    const mounted = openBlobs(fake.url, 'bucket', { mountPath: '/mnt/bucket' });
    expect(mounted.localPath?.('media/x/1')).toBe('/mnt/bucket/media/x/1');
    for (const key of ['../x', 'a/../../x', '/etc/passwd', '', 'a//b', 'a\0']) {
      expect(() => mounted.localPath?.(key)).toThrow('not a key');
    }
  });

  async function forgetSessions(): Promise<void> {
    await fake.close();
    await rm(folder, { recursive: true });
    fake = await startFakeCloudStorage({ folder });
  }
});

function* piecesOf(bytes: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
