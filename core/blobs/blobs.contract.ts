import { createHash, randomBytes } from 'node:crypto';
import { PassThrough, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, test as jestTest } from '@jest/globals';
import fc from 'fast-check';
import { waitFor } from '../../tests/support/wait-for.ts';
import {
  type BlobInfo,
  BlobNotFound,
  type Blobs,
  type PartialBlob,
  PartialConflict,
  PartialOverflow,
  readJson,
  writeJson,
} from './blobs.ts';

export interface BlobsUnderTest {
  blobs: Blobs;
  /** The same store as another process has it. */
  reopen(): Blobs;
  /** Throws when a write that failed, or a partial blob that has ended, has left anything behind. */
  expectNothingLeftBehind(): Promise<void>;
  dispose(): Promise<void>;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const TEXT = { contentType: 'text/plain' };

/** What every store of blobs promises. `makeStore` gives an empty one. `excused`: cases, or all of a partial blob, by their titles, and why. */
export function describeBlobs(
  name: string,
  makeStore: () => Promise<BlobsUnderTest>,
  { excused = {} }: { excused?: Record<string, string> } = {},
): void {
  const test = excusing(excused);
  describe(`${name} as blobs`, () => {
    let store: BlobsUnderTest;
    let blobs: Blobs;

    beforeEach(async () => {
      store = await makeStore();
      blobs = store.blobs;
    });
    afterEach(async () => {
      try {
        await store.expectNothingLeftBehind();
      } finally {
        await store.dispose();
      }
    });

    describe('write', () => {
      test.each([
        ['a string', 'text with ümlauts'],
        ['bytes', Buffer.from('text with ümlauts')],
        ['a stream', Readable.from([Buffer.from('text with '), Buffer.from('ümlauts')])],
      ])('stores %s and says how large it is and when that was', async (_, body) => {
        const before = Date.now();
        const info = await blobs.write('a/b', body, TEXT);
        expect(info).toMatchObject({ key: 'a/b', sizeBytes: 18 });
        expect(Math.abs(info.updatedAt.getTime() - before)).toBeLessThan(60_000);
        expect(await readText(blobs, 'a/b')).toBe('text with ümlauts');
        expect(await blobs.stat('a/b')).toEqual(info);
      });

      test('stores an empty body as an empty blob', async () => {
        await blobs.write('empty', Readable.from([]), TEXT);
        expect(await blobs.stat('empty')).toMatchObject({ sizeBytes: 0 });
        expect(await readText(blobs, 'empty')).toBe('');
      });

      test('replaces what was there', async () => {
        await blobs.write('a', 'a longer old text', TEXT);
        await blobs.write('a', 'new', TEXT);
        expect(await readText(blobs, 'a')).toBe('new');
      });

      test('lets readers see the old blob or a new one, never half of one', async () => {
        const size = 256 * KIB;
        await blobs.write('a', Buffer.alloc(size, 'a'), TEXT);
        let isWriting = true;
        const writing = (async () => {
          for (const letter of 'bcdefghij') await blobs.write('a', Buffer.alloc(size, letter), TEXT);
          isWriting = false;
        })();
        while (isWriting) {
          const bytes = await readBytes(blobs, 'a');
          expect(bytes.length).toBe(size);
          expect(bytes.equals(Buffer.alloc(size, bytes.subarray(0, 1)))).toBe(true);
        }
        await writing;
        expect(await readText(blobs, 'a', { end: 0 })).toBe('j');
      });

      test('of several at once to one key leaves one of them whole', async () => {
        const letters = [...'abcdefgh'];
        await Promise.all(letters.map((letter) => blobs.write('a/x', letter.repeat(64 * KIB), TEXT)));
        const text = await readText(blobs, 'a/x');
        expect(letters.map((letter) => letter.repeat(64 * KIB))).toContain(text);
      });

      test('changes nothing when the body fails half-way', async () => {
        await blobs.write('a', 'old', TEXT);
        await expect(blobs.write('a', failingBody(new Error('the client left')), TEXT)).rejects.toThrow(
          'the client left',
        );
        expect(await readText(blobs, 'a')).toBe('old');
        await expect(blobs.write('new', failingBody(new Error('the client left')), TEXT)).rejects.toThrow();
        expect(await blobs.stat('new')).toBeUndefined();
      });

      test('fails when the body breaks off without an error', async () => {
        const body = new PassThrough();
        body.write('half');
        const writing = blobs.write('a', body, TEXT);
        await sleep(20);
        body.destroy();
        await expect(writing).rejects.toThrow();
        expect(await blobs.stat('a')).toBeUndefined();
      });

      test('fails when the body had failed before', async () => {
        const body = new PassThrough();
        body.on('error', () => {});
        body.destroy(new Error('gone already'));
        await new Promise((resolve) => body.once('close', resolve));
        await expect(blobs.write('a', body, TEXT)).rejects.toThrow('gone already');
        expect(await blobs.stat('a')).toBeUndefined();
      });

      test('fails when the body fails before anything was read from it', async () => {
        const body = new PassThrough();
        const writing = blobs.write('a', body, TEXT);
        // Without a listener from the first moment, the error would end the process.
        expect(body.listenerCount('error')).toBeGreaterThan(0);
        body.destroy(new Error('gone at once'));
        await expect(writing).rejects.toThrow('gone at once');
        expect(await blobs.stat('a')).toBeUndefined();
      });

      test('gives up with the reason of the abort, even when the body says nothing any more', async () => {
        await blobs.write('a', 'old', TEXT);
        const controller = new AbortController();
        const body = new PassThrough();
        body.write('half');
        const writing = blobs.write('a', body, { ...TEXT, signal: controller.signal });
        await sleep(20);
        controller.abort(new Error('asked to stop'));
        await expect(writing).rejects.toThrow('asked to stop');
        expect(body.destroyed).toBe(true);
        expect(await readText(blobs, 'a')).toBe('old');
      });

      test.each([
        ['a stream', () => Readable.from(['x'])],
        ['a string', () => 'x'],
      ])('writes nothing of %s when it was aborted before', async (_, body) => {
        const signal = AbortSignal.abort(new Error('asked to stop'));
        await expect(blobs.write('a', body(), { ...TEXT, signal })).rejects.toThrow('asked to stop');
        expect(await blobs.stat('a')).toBeUndefined();
      });

      test('passes a big body through memory that does not grow with it', async () => {
        const size = 128 * MIB;
        const expected = createHash('sha256');
        const actual = createHash('sha256');
        const before = liveBytes();
        let peak = before;
        let seen = 0;
        const watch = (bytes: number) => {
          if (Math.floor(seen / (16 * MIB)) !== Math.floor((seen + bytes) / (16 * MIB))) {
            peak = Math.max(peak, liveBytes());
          }
          seen += bytes;
        };
        await blobs.write('big', Readable.from(pieces(size, expected, watch), { objectMode: false }), TEXT);
        for await (const piece of await blobs.read('big')) {
          actual.update(piece as Buffer);
          watch((piece as Buffer).length);
        }
        expect(actual.digest('hex')).toBe(expected.digest('hex'));
        expect(peak - before).toBeLessThan(size / 2);
      }, 120_000);
    });

    describe('read', () => {
      test('fails with BlobNotFound where nothing is', async () => {
        await blobs.write('folder/a', 'x', TEXT);
        for (const key of ['nothing', 'folder', 'folder/a/b', 'folder/b']) {
          await expect(readText(blobs, key)).rejects.toBeInstanceOf(BlobNotFound);
          await expect(readText(blobs, key)).rejects.toMatchObject({ key });
        }
      });

      test('gives the bytes from start to end, both included, whichever are given', async () => {
        const bytes = Buffer.from(Array.from({ length: 1_000 }, (_, i) => i % 251));
        await blobs.write('a', bytes, TEXT);
        expect(await readBytes(blobs, 'a', { start: 990 })).toEqual(bytes.subarray(990));
        expect(await readBytes(blobs, 'a', { end: 9 })).toEqual(bytes.subarray(0, 10));
        expect(await readBytes(blobs, 'a', { start: 5, end: 5 })).toEqual(bytes.subarray(5, 6));
        expect(await readBytes(blobs, 'a', { start: 900, end: 5_000 })).toEqual(bytes.subarray(900));
        await fc.assert(
          fc.asyncProperty(fc.nat(999), fc.nat(999), async (one, other) => {
            const [start, end] = [Math.min(one, other), Math.max(one, other)];
            expect(await readBytes(blobs, 'a', { start, end })).toEqual(bytes.subarray(start, end + 1));
          }),
          { numRuns: 20 },
        );
      });

      test('goes on with the old blob when it is replaced or deleted meanwhile', async () => {
        await blobs.write('a', 'x'.repeat(2 * MIB), TEXT);
        const stream = await blobs.read('a');
        const iterator = stream[Symbol.asyncIterator]();
        let text = String((await iterator.next()).value);
        await blobs.write('a', 'y'.repeat(2 * MIB), TEXT);
        await blobs.delete('a');
        for (let next = await iterator.next(); !next.done; next = await iterator.next()) text += next.value;
        expect(text === 'x'.repeat(2 * MIB)).toBe(true);
      });

      test('ends with an error when it is aborted', async () => {
        await blobs.write('a', Buffer.alloc(4 * MIB), TEXT);
        const controller = new AbortController();
        const stream = await blobs.read('a', { signal: controller.signal });
        const iterator = stream[Symbol.asyncIterator]();
        await iterator.next();
        controller.abort();
        await expect(
          (async () => {
            for (let next = await iterator.next(); !next.done; ) next = await iterator.next();
          })(),
        ).rejects.toThrow();
        await expect(readText(blobs, 'a', { signal: AbortSignal.abort() })).rejects.toThrow();
      });
    });

    test('stat knows nothing where nothing is', async () => {
      await blobs.write('folder/a', 'x', TEXT);
      expect(await blobs.stat('nothing')).toBeUndefined();
      expect(await blobs.stat('folder')).toBeUndefined();
      expect(await blobs.stat('folder/a/b')).toBeUndefined();
    });

    describe('list', () => {
      test('gives what begins with the prefix, in the order of the keys', async () => {
        // A slash sorts after a dot and a dash, but before letters: folders must not come first or last.
        const keys = ['b/z', 'a', 'b-c', 'b.c', 'b/a/deep/er', 'b/a1', 'b0', 'bb', 'c/a'];
        for (const key of keys) await blobs.write(key, key, TEXT);
        expect(await listKeys(blobs, '')).toEqual([...keys].sort());
        expect(await listKeys(blobs, 'b')).toEqual(keys.filter((key) => key.startsWith('b')).sort());
        expect(await listKeys(blobs, 'b/')).toEqual(['b/a/deep/er', 'b/a1', 'b/z']);
        expect(await listKeys(blobs, 'b/a')).toEqual(['b/a/deep/er', 'b/a1']);
        expect(await listKeys(blobs, 'b/a/')).toEqual(['b/a/deep/er']);
        expect(await listKeys(blobs, 'b/z')).toEqual(['b/z']);
        expect(await listKeys(blobs, 'd/e/')).toEqual([]);
      });

      test('says of each blob what stat says', async () => {
        await blobs.write('a/1', 'one', TEXT);
        const listed: BlobInfo[] = [];
        for await (const info of blobs.list('a/')) listed.push(info);
        expect(listed).toEqual([await blobs.stat('a/1')]);
      });

      test('leaves out what is still being written', async () => {
        const body = new PassThrough();
        body.write('half');
        const writing = blobs.write('a/1', body, TEXT);
        await sleep(20);
        expect(await listKeys(blobs, '')).toEqual([]);
        expect(await blobs.stat('a/1')).toBeUndefined();
        body.end();
        await writing;
        expect(await listKeys(blobs, '')).toEqual(['a/1']);
      });
    });

    describe('delete', () => {
      test('removes one blob; nothing there is success too', async () => {
        await blobs.write('a/1', 'x', TEXT);
        await blobs.write('a/2', 'x', TEXT);
        await blobs.delete('a/1');
        await blobs.delete('a/1');
        await blobs.delete('a');
        await blobs.delete('a/2/3');
        await blobs.delete('never/was');
        expect(await listKeys(blobs, '')).toEqual(['a/2']);
      });

      test('of a prefix removes all that begins with it; nothing there is success too', async () => {
        for (const key of ['a/1', 'a/2/3', 'ab', 'b']) await blobs.write(key, 'x', TEXT);
        await blobs.deletePrefix('a/');
        await blobs.deletePrefix('a/');
        expect(await listKeys(blobs, '')).toEqual(['ab', 'b']);
        await blobs.deletePrefix('never/was/');
      });

      test('of the last other blob beside it does not disturb a write', async () => {
        const rounds = async (key: string) => {
          for (let round = 0; round < 40; round++) {
            await blobs.write(key, 'x', TEXT);
            expect(await blobs.stat(key)).toMatchObject({ sizeBytes: 1 });
            await blobs.delete(key);
          }
        };
        await Promise.all(['a/b/1', 'a/b/2', 'a/b/3', 'a/c/1'].map(rounds));
        expect(await listKeys(blobs, '')).toEqual([]);
      });
    });

    describe('copy', () => {
      test('puts the blob at another key too, replacing what was there', async () => {
        await blobs.write('a/from', 'text', TEXT);
        await blobs.write('b/to', 'a longer old text', TEXT);
        expect(await blobs.copy('a/from', 'b/to')).toMatchObject({ key: 'b/to', sizeBytes: 4 });
        expect(await blobs.copy('a/from', 'c/d/to')).toEqual(await blobs.stat('c/d/to'));
        expect(await blobs.copy('a/from', 'c/d/to')).toEqual(await blobs.stat('c/d/to'));
        for (const key of ['a/from', 'b/to', 'c/d/to']) expect(await readText(blobs, key)).toBe('text');
        expect(await listKeys(blobs, '')).toEqual(['a/from', 'b/to', 'c/d/to']);
      });

      test('leaves two blobs that know nothing of each other', async () => {
        await blobs.write('from', 'text', TEXT);
        await blobs.copy('from', 'one');
        await blobs.copy('from', 'two');
        await blobs.write('from', 'new', TEXT);
        await blobs.delete('one');
        expect(await readText(blobs, 'two')).toBe('text');
        expect(await readText(blobs, 'from')).toBe('new');
      });

      test('of a blob to its own key changes nothing', async () => {
        await blobs.write('a', 'text', TEXT);
        expect(await blobs.copy('a', 'a')).toMatchObject({ key: 'a', sizeBytes: 4 });
        expect(await readText(blobs, 'a')).toBe('text');
      });

      test('several times at once to one key leaves one of them whole', async () => {
        const letters = [...'abcd'];
        for (const letter of letters) await blobs.write(`from/${letter}`, letter.repeat(10), TEXT);
        await Promise.all(letters.map((letter) => blobs.copy(`from/${letter}`, 'to/x')));
        expect(letters.map((letter) => letter.repeat(10))).toContain(await readText(blobs, 'to/x'));
      });

      test('fails with BlobNotFound where nothing is, and makes nothing', async () => {
        await blobs.write('folder/a', 'x', TEXT);
        for (const key of ['nothing', 'folder', 'folder/a/b']) {
          await expect(blobs.copy(key, 'to')).rejects.toMatchObject({ name: 'BlobNotFound', key });
        }
        expect(await listKeys(blobs, '')).toEqual(['folder/a']);
      });

      test('does nothing when it was aborted before', async () => {
        await blobs.write('a', 'x', TEXT);
        const signal = AbortSignal.abort(new Error('asked to stop'));
        await expect(blobs.copy('a', 'b', { signal })).rejects.toThrow('asked to stop');
        expect(await blobs.stat('b')).toBeUndefined();
      });
    });

    const whyNoPartials = excused['a partial blob'];
    describe(`a partial blob${whyNoPartials === undefined ? '' : ` – ${whyNoPartials}`}`, () => {
      const test = whyNoPartials === undefined ? jestTest : jestTest.skip;
      const BYTES = randomBytes(11 * MIB + 12_345);
      let partial: PartialBlob;
      beforeEach(async () => {
        partial = await blobs.startPartial('a/b', { ...TEXT, sizeBytes: BYTES.length });
      });
      afterEach(() => blobs.cancelPartial(partial));

      const append = async (start: number, end: number = BYTES.length, by: Blobs = blobs) =>
        by.appendPartial(partial, start, bodyOf(BYTES.subarray(start, end)));
      const expectWhole = async () => {
        expect(await blobs.storedBytes(partial)).toBe(BYTES.length);
        expect((await readBytes(blobs, 'a/b')).equals(BYTES)).toBe(true);
        expect(await listKeys(blobs, '')).toEqual(['a/b']);
      };

      test('begins with nothing, is seen by nobody until it is whole, and then by all', async () => {
        expect(await blobs.storedBytes(partial)).toBe(0);
        expect(await append(0, 10 * MIB)).toBe(10 * MIB);
        expect(await blobs.stat('a/b')).toBeUndefined();
        expect(await listKeys(blobs, '')).not.toContain('a/b');
        expect(await append(10 * MIB)).toBe(BYTES.length);
        expect(await blobs.stat('a/b')).toMatchObject({ key: 'a/b', sizeBytes: BYTES.length });
        await expectWhole();
      });

      test('comes in pieces of any length, through any process', async () => {
        const lengths = [1, 9, 0, 100_000, 256 * KIB - 100_010, 256 * KIB, 256 * KIB + 1, 5 * MIB, 7];
        let at = 0;
        for (const length of [...lengths, BYTES.length]) {
          const process = store.reopen();
          const end = Math.min(at + length, BYTES.length);
          expect(await append(at, end, process)).toBe(end);
          expect(await store.reopen().storedBytes(partial)).toBe(end);
          at = end;
        }
        await expectWhole();
      });

      test('of no bytes is whole at once', async () => {
        const empty = await blobs.startPartial('empty', { ...TEXT, sizeBytes: 0 });
        expect(await blobs.storedBytes(empty)).toBe(0);
        expect(await blobs.stat('empty')).toMatchObject({ sizeBytes: 0 });
        expect(await blobs.appendPartial(empty, 0, bodyOf(Buffer.alloc(0)))).toBe(0);
      });

      test('replaces what was there only when it is whole', async () => {
        await blobs.write('c', 'old', TEXT);
        const next = await blobs.startPartial('c', { ...TEXT, sizeBytes: 3 });
        await blobs.appendPartial(next, 0, bodyOf(Buffer.from('ne')));
        expect(await readText(blobs, 'c')).toBe('old');
        await blobs.appendPartial(next, 2, bodyOf(Buffer.from('w')));
        expect(await readText(blobs, 'c')).toBe('new');
      });

      test('keeps what came before its body failed, and goes on from there', async () => {
        const broken = new Error('the client left');
        let at = 0;
        for (const sizeBytes of [10, 300 * KIB, 5 * MIB, 0]) {
          const body = bodyOf(BYTES.subarray(at, at + sizeBytes), broken);
          await expect(blobs.appendPartial(partial, at, body)).rejects.toBe(broken);
          at += sizeBytes;
          expect(await blobs.storedBytes(partial)).toBe(at);
        }
        expect(await append(at)).toBe(BYTES.length);
        await expectWhole();
      });

      test('keeps what came before its body broke off without an error', async () => {
        const body = new PassThrough();
        body.write(BYTES.subarray(0, 1_000));
        const appending = blobs.appendPartial(partial, 0, body);
        await sleep(50);
        body.destroy();
        await expect(appending).rejects.toThrow();
        expect(await blobs.storedBytes(partial)).toBe(1_000);
      });

      test('keeps what came before an abort, even when the body says nothing any more', async () => {
        const controller = new AbortController();
        const body = new PassThrough();
        body.write(BYTES.subarray(0, 1_000));
        const appending = blobs.appendPartial(partial, 0, body, { signal: controller.signal });
        await waitFor('the bytes to be read', () => body.readableLength === 0);
        controller.abort(new Error('asked to stop'));
        await expect(appending).rejects.toThrow('asked to stop');
        expect(body.destroyed).toBe(true);
        expect(await blobs.storedBytes(partial)).toBe(1_000);
      });

      test('takes nothing when it was aborted before, or the body had failed before', async () => {
        const signal = AbortSignal.abort(new Error('asked to stop'));
        await expect(blobs.appendPartial(partial, 0, bodyOf(BYTES), { signal })).rejects.toThrow(
          'asked to stop',
        );
        const body = new PassThrough();
        body.on('error', () => {});
        body.destroy(new Error('gone already'));
        await new Promise((resolve) => body.once('close', resolve));
        await expect(blobs.appendPartial(partial, 0, body)).rejects.toThrow('gone already');
        expect(await blobs.storedBytes(partial)).toBe(0);
      });

      test('refuses a body that begins elsewhere, and says where it would have to', async () => {
        await append(0, 300 * KIB);
        for (const offset of [0, 300 * KIB - 1, 300 * KIB + 1, BYTES.length]) {
          const body = bodyOf(BYTES.subarray(offset));
          const refused = blobs.appendPartial(partial, offset, body);
          await expect(refused).rejects.toMatchObject({ name: 'PartialConflict', storedBytes: 300 * KIB });
          expect(body.destroyed).toBe(true);
        }
        expect(await blobs.storedBytes(partial)).toBe(300 * KIB);
        await append(300 * KIB);
        await expectWhole();
      });

      test('takes nothing more once it is whole', async () => {
        await append(0);
        expect(await append(BYTES.length)).toBe(BYTES.length);
        await expect(append(0)).rejects.toMatchObject({ storedBytes: BYTES.length });
        await expect(
          blobs.appendPartial(partial, BYTES.length, bodyOf(Buffer.from('x'))),
        ).rejects.toBeInstanceOf(PartialOverflow);
        await expectWhole();
      });

      test('keeps nothing beyond its size', async () => {
        await append(0, 5 * MIB);
        const body = bodyOf(Buffer.concat([BYTES.subarray(5 * MIB), Buffer.from('surplus')]));
        await expect(blobs.appendPartial(partial, 5 * MIB, body)).rejects.toBeInstanceOf(PartialOverflow);
        await expectWhole();
      });

      test('that several add the same to has each byte where it belongs', async () => {
        const ends = [300 * KIB + 1, 9 * MIB, 6 * MIB, 10];
        const results = await Promise.allSettled(ends.map((end) => append(0, end, store.reopen())));
        expect(results.some(({ status }) => status === 'fulfilled')).toBe(true);
        for (const result of results) {
          if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(PartialConflict);
        }
        const stored = (await blobs.storedBytes(partial)) ?? 0;
        expect(stored).toBeGreaterThanOrEqual(10);
        await append(stored);
        await expectWhole();
      });

      test('leaves nothing behind when it is canceled, and takes nothing any more', async () => {
        await append(0, 300 * KIB);
        await blobs.cancelPartial(partial);
        await blobs.cancelPartial(partial);
        expect(await blobs.storedBytes(partial)).toBeUndefined();
        await expect(append(300 * KIB)).rejects.toMatchObject({ name: 'BlobNotFound', key: 'a/b' });
        expect(await listKeys(blobs, '')).toEqual([]);
      });

      test('that is whole is not harmed by a cancellation', async () => {
        await append(0);
        await blobs.cancelPartial(partial);
        await expectWhole();
      });

      test('that was canceled is not taken for another blob at its key', async () => {
        await blobs.write('c', 'old', TEXT);
        await sleep(20);
        const next = await blobs.startPartial('c', { ...TEXT, sizeBytes: 3 });
        await blobs.cancelPartial(next);
        expect(await blobs.storedBytes(next)).toBeUndefined();
        expect(await readText(blobs, 'c')).toBe('old');
      });

      test('has nothing of an earlier one at its key', async () => {
        await append(0, 300 * KIB);
        const next = await blobs.startPartial('a/b', { ...TEXT, sizeBytes: BYTES.length });
        expect(await blobs.storedBytes(next)).toBe(0);
        await blobs.cancelPartial(partial);
        partial = next;
        await append(0);
        await expectWhole();
      });

      test('passes a big body through memory that does not grow with it', async () => {
        const size = 128 * MIB;
        const hash = createHash('sha256');
        const before = liveBytes();
        let peak = before;
        let seen = 0;
        const watch = (bytes: number) => {
          seen += bytes;
          if (seen % (8 * MIB) === 0) peak = Math.max(peak, liveBytes());
        };
        const big = await blobs.startPartial('big', { ...TEXT, sizeBytes: size });
        const body = Readable.from(pieces(size, hash, watch), { objectMode: false });
        expect(await blobs.appendPartial(big, 0, body)).toBe(size);
        const actual = createHash('sha256');
        for await (const piece of await blobs.read('big')) actual.update(piece as Buffer);
        expect(actual.digest('hex')).toBe(hash.digest('hex'));
        expect(peak - before).toBeLessThan(size / 2);
      }, 120_000);
    });

    test('JSON comes back as it was', async () => {
      const value = { text: 'ümlaut', numbers: [1.5, null], nested: { yes: true } };
      await writeJson(blobs, 'a.json', value);
      expect(await readJson(blobs, 'a.json')).toEqual(value);
      await expect(readJson(blobs, 'b.json')).rejects.toBeInstanceOf(BlobNotFound);
    });
  });
}

function excusing(excused: Record<string, string>) {
  const one = (title: string, body: () => unknown, timeoutMs?: number): void => {
    const reason = excused[title];
    if (reason === undefined) jestTest(title, body as () => Promise<void>, timeoutMs);
    else jestTest.skip(`${title} – ${reason}`, body as () => Promise<void>);
  };
  return Object.assign(one, { each: jestTest.each });
}

/** All of the bytes, in pieces as a network brings them; then the error, if there is one. */
function bodyOf(bytes: Buffer, error?: Error): Readable {
  return Readable.from(
    (async function* () {
      for (let at = 0; at < bytes.length; at += 60_000) yield bytes.subarray(at, at + 60_000);
      if (error !== undefined) throw error;
    })(),
    { objectMode: false },
  );
}

export function failingBody(error: Error): Readable {
  return Readable.from(
    (async function* () {
      yield Buffer.alloc(100 * KIB);
      await sleep(5);
      throw error;
    })(),
  );
}

export async function listKeys(blobs: Blobs, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of blobs.list(prefix)) keys.push(key);
  return keys;
}

type Range = Parameters<Blobs['read']>[1];

async function readBytes(blobs: Blobs, key: string, range?: Range): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of await blobs.read(key, range)) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

async function readText(blobs: Blobs, key: string, range?: Range): Promise<string> {
  return (await readBytes(blobs, key, range)).toString('utf8');
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What is still held: resident memory would also count what the collector has not come round to. */
function liveBytes(): number {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

function* pieces(sizeBytes: number, hash: ReturnType<typeof createHash>, each: (bytes: number) => void) {
  for (let at = 0; at < sizeBytes; at += 64 * KIB) {
    const piece = Buffer.alloc(64 * KIB);
    piece.writeUInt32LE(at / piece.length);
    hash.update(piece);
    each(piece.length);
    yield piece;
  }
}
