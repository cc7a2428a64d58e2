import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import * as tus from 'tus-js-client';
import type { Blobs } from '../../core/blobs/blobs.ts';
import { createLog } from '../../core/log.ts';
import { newUploadId, uploadLockKey, uploadMediaKey } from '../../core/objects.ts';
import type { Records } from '../../core/records/records.ts';
import { CPU_QUEUE, expireUploadTask } from '../../core/tasks/task.ts';
import { expireUpload } from '../../cpu-service/expire-upload.ts';
import { agedRecords } from '../../tests/support/aged-records.ts';
import { startBreakingProxy } from '../../tests/support/breaking-proxy.ts';
import { type StartedApi, startApi } from '../../tests/support/start-api.ts';
import { waitFor } from '../../tests/support/wait-for.ts';
import { parseApiKeys } from '../http/api-keys.ts';
import { finishedUpload } from './open-upload.ts';

export interface TusStores {
  blobs: Blobs;
  records: Records;
  /** Keys of all blobs and records, and whatever else is left lying about. */
  everything(): Promise<string[]>;
  dispose(): Promise<void>;
}

const log = createLog('test', { level: 'silent' });
const MAX_BYTES = 64 * 1024 * 1024;
const ANN = { authorization: 'Bearer key-of-ann', 'tus-resumable': '1.0.0' };
const PIECE = { 'content-type': 'application/offset+octet-stream' };
const DAY_MS = 24 * 3_600_000;

const base64 = (text: string) => Buffer.from(text).toString('base64');
const METADATA = `filename ${base64('../dir/böse\u202e.mp4')},filetype ${base64('video/mp4')},is_draft`;

/** Nothing, where no answer came. By its name: the error is not of this test's world. */
function unlessBroken(error: unknown): undefined {
  if ((error as Error).message !== 'fetch failed') throw error;
}

/** tus 1.0.0 over HTTP, as a client sees it, on one kind of store. */
export function describeTus(name: string, makeStores: () => Promise<TusStores>): void {
  describe(`tus on ${name}`, () => {
    let stores: TusStores;
    let api: StartedApi;
    let nowMs: number;
    const started: StartedApi[] = [];

    /** One more instance of the API on the same store. */
    async function start(overrides: Parameters<typeof startApi>[0] = {}) {
      const instance = await startApi({
        blobs: stores.blobs,
        records: stores.records,
        keys: parseApiKeys('ann:key-of-ann,bob:key-of-bob'),
        maxUploadBytes: MAX_BYTES,
        now: () => nowMs,
        ...overrides,
      });
      started.push(instance);
      return instance;
    }

    beforeEach(async () => {
      nowMs = Date.now();
      stores = await makeStores();
      api = await start();
    });
    afterEach(async () => {
      for (const instance of started.splice(0)) await instance.stop();
      await stores.dispose();
    });

    function call(method: string, url: string, headers: Record<string, string> = {}, body?: Uint8Array) {
      const target = new URL(url, `${api.url}/v1/uploads/`);
      return fetch(target, {
        method,
        headers: { ...ANN, ...headers },
        ...(body === undefined ? {} : { body: body as unknown as RequestInit['body'] & {} }),
      });
    }
    const create = (headers: Record<string, string>, body?: Uint8Array) =>
      call('POST', '/v1/uploads', { 'upload-metadata': METADATA, ...headers }, body);
    async function created(sizeBytes: number, headers: Record<string, string> = {}): Promise<string> {
      const answer = await create({ 'upload-length': String(sizeBytes), ...headers });
      expect(answer.status).toBe(201);
      return answer.headers.get('location') as string;
    }
    const patch = (url: string, offset: number, body: Uint8Array, headers: Record<string, string> = {}) =>
      call('PATCH', url, { ...PIECE, 'upload-offset': String(offset), ...headers }, body);
    const offsetOf = async (url: string, headers: Record<string, string> = {}) => {
      const answer = await call('HEAD', url, headers);
      expect(answer.status).toBe(200);
      return Number(answer.headers.get('upload-offset'));
    };
    const refOf = (url: string, owner = 'ann') => ({ owner, id: url.slice(url.lastIndexOf('/') + 1) });
    const bytesOf = async (url: string) => buffer(await stores.blobs.read(uploadMediaKey(refOf(url))));
    const open = (url: string) => finishedUpload({ ...stores, now: () => nowMs }, 'ann', refOf(url).id);

    async function expectProblem(answer: Response, status: number, slug: string) {
      expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
      expect(await answer.json()).toMatchObject({ type: `urn:zeroscribe:problem:${slug}`, status });
      expect(answer.status).toBe(status);
      expect(answer.headers.get('tus-resumable')).toBe('1.0.0');
    }

    /** Sends the head of a piece, and then what the test writes. */
    function slowPatch(url: string, offset: number, sizeBytes: number | undefined) {
      const req = request(url, {
        method: 'PATCH',
        headers: {
          ...ANN,
          ...PIECE,
          'upload-offset': String(offset),
          ...(sizeBytes === undefined
            ? { 'transfer-encoding': 'chunked' }
            : { 'content-length': String(sizeBytes) }),
        },
      });
      const answer = once(req, 'response').then(([res]) => res.resume().statusCode as number);
      answer.catch(() => {});
      req.on('error', () => {});
      return { req, answer };
    }

    describe('what the server offers', () => {
      test.each(['/v1/uploads', `/v1/uploads/${newUploadId()}`])(
        'OPTIONS %s says it, without a key',
        async (path) => {
          const answer = await fetch(api.url + path, {
            method: 'OPTIONS',
            headers: { origin: 'https://elsewhere.example', 'access-control-request-method': 'PATCH' },
          });
          expect(answer.status).toBe(204);
          expect(answer.headers.get('tus-version')).toBe('1.0.0');
          expect(answer.headers.get('tus-extension')).toBe(
            'creation,creation-with-upload,expiration,termination',
          );
          expect(answer.headers.get('tus-max-size')).toBe(String(MAX_BYTES));
          expect([...answer.headers.keys()].filter((key) => key.startsWith('access-control'))).toEqual([]);
        },
      );

      test('pages of other origins get no permission', async () => {
        const url = await created(3, { origin: 'https://elsewhere.example' });
        const answer = await call('HEAD', url, { origin: 'https://elsewhere.example' });
        expect([...answer.headers.keys()].filter((key) => key.startsWith('access-control'))).toEqual([]);
      });
    });

    describe('creation', () => {
      test('gives the upload an address and a time to live', async () => {
        // Its clock is that of the service.
        nowMs -= 3_600_000;
        const answer = await create({ 'upload-length': '10' });
        expect(answer.status).toBe(201);
        expect(answer.headers.get('tus-resumable')).toBe('1.0.0');
        expect(answer.headers.get('location')).toMatch(
          new RegExp(`^${api.url}/v1/uploads/up_[0-9a-hjkmnp-tv-z]{19}$`),
        );
        expect(Date.parse(answer.headers.get('upload-expires') as string)).toBe(
          Math.floor((nowMs + DAY_MS) / 1_000) * 1_000,
        );
        expect(await answer.text()).toBe('');
      });

      test('keeps what the metadata says of the file, as it would of a part of a form', async () => {
        const url = await created(3);
        await patch(url, 0, Buffer.from('abc'));
        expect(await open(url)).toMatchObject({
          filename: 'böse.mp4',
          content_type: 'video/mp4',
          size_bytes: 3,
        });
        const guessed = await created(1, { 'upload-metadata': `filename ${base64('a.flac')}` });
        await patch(guessed, 0, Buffer.from('a'));
        expect(await open(guessed)).toMatchObject({ filename: 'a.flac', content_type: 'audio/flac' });
        const recorded = await created(1, {
          'upload-metadata': `content_type ${base64('audio/webm;codecs=opus')}`,
        });
        await patch(recorded, 0, Buffer.from('a'));
        expect(await open(recorded)).toMatchObject({ filename: null, content_type: 'audio/webm' });
      });

      test('stands behind the public address where there is one', async () => {
        api = await start({ publicUrl: 'https://voice.example' });
        expect(await created(3)).toMatch(/^https:\/\/voice\.example\/v1\/uploads\/up_/);
      });

      test('with a length of zero is a whole upload, and no media', async () => {
        const url = await created(0);
        const answer = await call('HEAD', url);
        expect(answer.headers.get('upload-offset')).toBe('0');
        expect(answer.headers.get('upload-length')).toBe('0');
        expect((await patch(url, 0, Buffer.alloc(0))).status).toBe(204);
        await expect(open(url)).rejects.toMatchObject({ slug: 'media-empty' });
      });

      test('takes the first piece, or all of it', async () => {
        const part = await create({ 'upload-length': '10', ...PIECE }, Buffer.from('01234'));
        expect(part.status).toBe(201);
        expect(part.headers.get('upload-offset')).toBe('5');
        expect(part.headers.get('upload-expires')).not.toBeNull();
        const url = part.headers.get('location') as string;
        expect((await patch(url, 5, Buffer.from('56789'))).status).toBe(204);
        expect(String(await bytesOf(url))).toBe('0123456789');

        const whole = await create({ 'upload-length': '3', ...PIECE }, Buffer.from('abc'));
        expect(whole.headers.get('upload-offset')).toBe('3');
        expect(whole.headers.get('upload-expires')).toBeNull();
        expect(String(await bytesOf(whole.headers.get('location') as string))).toBe('abc');
      });

      test('leaves nothing when its first piece is too long', async () => {
        const answer = await create({ 'upload-length': '3', ...PIECE }, Buffer.from('abcd'));
        await expectProblem(answer, 413, 'media-too-large');
        expect(await stores.everything()).toEqual([]);
        expect(api.queue.nextDueAt(CPU_QUEUE)).toBeUndefined();
      });

      test('ignores a body that is no piece', async () => {
        const answer = await create(
          { 'upload-length': '3', 'content-type': 'application/json' },
          Buffer.from('{}'),
        );
        expect(answer.status).toBe(201);
        expect(await offsetOf(answer.headers.get('location') as string)).toBe(0);
      });

      test.each<[string, Record<string, string>, number, string]>([
        ['without a length', {}, 400, 'invalid-request'],
        ['with a negative length', { 'upload-length': '-1' }, 400, 'invalid-request'],
        ['with a length that is no number', { 'upload-length': '1e3' }, 400, 'invalid-request'],
        [
          'with a length beyond whole numbers',
          { 'upload-length': '99999999999999999999' },
          400,
          'invalid-request',
        ],
        ['with more than is allowed', { 'upload-length': String(MAX_BYTES + 1) }, 413, 'media-too-large'],
        ['with its length put off', { 'upload-defer-length': '1' }, 422, 'not-supported'],
        [
          'with its length given and put off',
          { 'upload-length': '3', 'upload-defer-length': '1' },
          422,
          'not-supported',
        ],
        ['as a part of another', { 'upload-length': '3', 'upload-concat': 'partial' }, 422, 'not-supported'],
        [
          'with metadata that is not base64',
          { 'upload-length': '3', 'upload-metadata': 'filename böse' },
          400,
          'invalid-request',
        ],
        [
          'with metadata twice',
          { 'upload-length': '3', 'upload-metadata': 'a YQ==,a Yg==' },
          400,
          'invalid-request',
        ],
        [
          'with too much metadata',
          { 'upload-length': '3', 'upload-metadata': `a ${base64('x'.repeat(6_500))}` },
          400,
          'invalid-request',
        ],
        [
          'of a document',
          { 'upload-length': '3', 'upload-metadata': `filetype ${base64('application/pdf')}` },
          415,
          'media-type-not-supported',
        ],
        [
          'of a text by its name',
          {
            'upload-length': '3',
            'upload-metadata': `filename ${base64('notes.txt')},filetype ${base64('text/plain')}`,
          },
          415,
          'media-type-not-supported',
        ],
        [
          'of another version',
          { 'upload-length': '3', 'tus-resumable': '0.2.2' },
          412,
          'upload-version-not-supported',
        ],
        [
          'without a version',
          { 'upload-length': '3', 'tus-resumable': '' },
          412,
          'upload-version-not-supported',
        ],
      ])('%s is refused', async (_case, headers, status, slug) => {
        const answer = await create(headers);
        if (status === 412) expect(answer.headers.get('tus-version')).toBe('1.0.0');
        await expectProblem(answer, status, slug);
        expect(await stores.everything()).toEqual([]);
      });

      test('needs a key', async () => {
        const answer = await call('POST', '/v1/uploads', { authorization: '', 'upload-length': '3' });
        expect(answer.status).toBe(401);
        expect(await answer.json()).toMatchObject({ type: 'urn:zeroscribe:problem:unauthorized' });
      });
    });

    describe('HEAD', () => {
      test('says how far the upload is, to be kept by nobody', async () => {
        const url = await created(10);
        await patch(url, 0, Buffer.from('0123'));
        const answer = await call('HEAD', url);
        expect(answer.status).toBe(200);
        expect(answer.headers.get('upload-offset')).toBe('4');
        expect(answer.headers.get('upload-length')).toBe('10');
        expect(answer.headers.get('upload-metadata')).toBe(METADATA);
        expect(answer.headers.get('cache-control')).toBe('no-store');
        expect(answer.headers.get('tus-resumable')).toBe('1.0.0');
        await expect(open(url)).rejects.toMatchObject({
          slug: 'upload-unfinished',
          extensions: { field: 'source.upload_id', upload_offset: 4 },
        });
      });

      test.each([newUploadId(), 'up_x', '..%2f..%2fjobs', 'x'.repeat(300), '%00'])(
        'of %s finds nothing',
        async (id) => {
          const answer = await call('HEAD', id);
          expect(answer.status).toBe(404);
          expect(answer.headers.get('upload-offset')).toBeNull();
          await expectProblem(await patch(id, 0, Buffer.from('x')), 404, 'not-found');
          await expectProblem(await call('DELETE', id), 404, 'not-found');
          expect(await stores.everything()).toEqual([]);
        },
      );
    });

    describe('PATCH', () => {
      test('adds pieces until the upload is whole, which is seen only then', async () => {
        const media = randomBytes(3_000_000);
        const url = await created(media.length);
        let offset = 0;
        for (const end of [1, 7, 300_000, 1_048_576, 1_048_577, 3_000_000]) {
          expect(await stores.blobs.stat(uploadMediaKey(refOf(url)))).toBeUndefined();
          const answer = await patch(url, offset, media.subarray(offset, end));
          expect(answer.status).toBe(204);
          expect(answer.headers.get('upload-offset')).toBe(String(end));
          expect(answer.headers.get('tus-resumable')).toBe('1.0.0');
          expect(answer.headers.get('upload-expires') === null).toBe(end === media.length);
          expect(await offsetOf(url)).toBe(end);
          offset = end;
        }
        expect((await bytesOf(url)).equals(media)).toBe(true);
        expect((await open(url)).size_bytes).toBe(media.length);
        expect((await stores.blobs.stat(uploadMediaKey(refOf(url))))?.sizeBytes).toBe(media.length);
      });

      test('through another instance goes on where the first one was', async () => {
        const media = randomBytes(900_000);
        const url = await created(media.length);
        await patch(url, 0, media.subarray(0, 500_001));
        await api.stop();
        started.splice(started.indexOf(api), 1);
        api = await start();
        const moved = `${api.url}/v1/uploads/${refOf(url).id}`;
        expect(await offsetOf(moved)).toBe(500_001);
        expect((await patch(moved, 500_001, media.subarray(500_001))).status).toBe(204);
        expect((await bytesOf(url)).equals(media)).toBe(true);
      });

      test('with no bytes changes nothing', async () => {
        const url = await created(3);
        expect((await patch(url, 0, Buffer.alloc(0))).headers.get('upload-offset')).toBe('0');
        await patch(url, 0, Buffer.from('abc'));
        expect((await patch(url, 3, Buffer.alloc(0))).headers.get('upload-offset')).toBe('3');
        expect(String(await bytesOf(url))).toBe('abc');
      });

      test.each([0, 3, 5, 10, 11])('at %i of an upload that is at 4 is a conflict', async (offset) => {
        const url = await created(10);
        await patch(url, 0, Buffer.from('0123'));
        await expectProblem(await patch(url, offset, Buffer.from('x')), 409, 'upload-conflict');
        expect(await offsetOf(url)).toBe(4);
      });

      test('to a whole upload is a conflict', async () => {
        const url = await created(3);
        await patch(url, 0, Buffer.from('abc'));
        await expectProblem(await patch(url, 0, Buffer.from('xyz')), 409, 'upload-conflict');
        expect(String(await bytesOf(url))).toBe('abc');
      });

      test.each<[string, Record<string, string>, number, string]>([
        ['without an offset', { 'upload-offset': '' }, 400, 'invalid-request'],
        ['with a negative offset', { 'upload-offset': '-4' }, 400, 'invalid-request'],
        ['with an offset that is no number', { 'upload-offset': 'four' }, 400, 'invalid-request'],
        ['of another type', { 'content-type': 'application/octet-stream' }, 415, 'media-type-not-supported'],
        ['of no type', { 'content-type': '' }, 415, 'media-type-not-supported'],
        ['of another version', { 'tus-resumable': '2.0.0' }, 412, 'upload-version-not-supported'],
        ['with a length', { 'upload-length': '5' }, 422, 'not-supported'],
      ])('%s is refused', async (_case, headers, status, slug) => {
        const url = await created(10);
        await patch(url, 0, Buffer.from('0123'));
        await expectProblem(await patch(url, 4, Buffer.from('x'), headers), status, slug);
        expect(await offsetOf(url)).toBe(4);
      });

      test('beyond the length is refused, announced or not, and nothing of the surplus kept', async () => {
        const url = await created(10);
        await patch(url, 0, Buffer.from('0123'));
        await expectProblem(await patch(url, 4, Buffer.from('4567890')), 413, 'media-too-large');
        expect(await offsetOf(url)).toBe(4);
        const { req, answer } = slowPatch(url, 4, undefined);
        req.end(Buffer.from('4567890'));
        expect(await answer).toBe(413);
        expect(await offsetOf(url)).toBeLessThanOrEqual(10);
      });

      test('is kept as far as it came when the connection breaks', async () => {
        const media = randomBytes(2_000_000);
        const url = await created(media.length);
        let offset = 0;
        let reading = 0;
        // What was sent has not arrived before the service reads it, which on a busy machine may take a while.
        await waitFor('something to be kept', async () => {
          const { req } = slowPatch(url, 0, media.length);
          req.write(media.subarray(0, 1_234_567));
          await waitFor('bytes to be sent', () => req.socket !== null && req.socket.bytesWritten > 1_234_567);
          await sleep(reading++ * 200);
          req.destroy();
          offset = await offsetOf(url);
          return offset > 0;
        });
        expect(offset).toBeLessThanOrEqual(1_234_567);
        expect((await patch(url, offset, media.subarray(offset))).status).toBe(204);
        expect((await bytesOf(url)).equals(media)).toBe(true);
      });

      test('is kept as far as it came when the service is asked to stop', async () => {
        const stopping = new AbortController();
        api = await start({ stopping: stopping.signal });
        const media = randomBytes(1_000_000);
        const url = await created(media.length);
        const { req, answer } = slowPatch(url, 0, media.length);
        req.write(media.subarray(0, 700_000));
        await waitFor('the lock', () => stores.records.read(uploadLockKey(refOf(url))));
        stopping.abort();
        expect(await answer).toBe(204);
        req.destroy();
        api = await start();
        const moved = `${api.url}/v1/uploads/${refOf(url).id}`;
        const offset = await offsetOf(moved);
        expect((await patch(moved, offset, media.subarray(offset))).status).toBe(204);
        expect((await bytesOf(url)).equals(media)).toBe(true);
      });

      test('by POST with a method override works too', async () => {
        const url = await created(3);
        const override = (method: string, headers: Record<string, string> = {}, body?: Uint8Array) =>
          call('POST', url, { 'x-http-method-override': method, ...headers }, body);
        const patched = await override('PATCH', { ...PIECE, 'upload-offset': '0' }, Buffer.from('abc'));
        expect(patched.status).toBe(204);
        expect((await override('HEAD')).headers.get('upload-offset')).toBe('3');
        expect((await override('DELETE')).status).toBe(204);
        expect((await call('HEAD', url)).status).toBe(404);
      });
    });

    describe('two at once', () => {
      test('a second piece gets the lock, and the first keeps what it has brought', async () => {
        const media = randomBytes(1_000_000);
        const url = await created(media.length);
        const first = slowPatch(url, 0, media.length);
        first.req.write(media.subarray(0, 400_000));
        await waitFor('the lock', async () => {
          const stored = await stores.records.read(uploadLockKey(refOf(url)));
          return (stored?.value as { holder: string | null } | undefined)?.holder;
        });
        const offset = await offsetOf(url);
        expect(await first.answer).toBe(204);
        first.req.destroy();
        expect((await patch(url, offset, media.subarray(offset))).status).toBe(204);
        expect((await bytesOf(url)).equals(media)).toBe(true);
      });

      test('through two instances, too', async () => {
        const other = await start();
        const media = randomBytes(1_000_000);
        const url = await created(media.length);
        const first = slowPatch(url, 0, media.length);
        first.req.write(media.subarray(0, 400_000));
        await waitFor('the lock', () => stores.records.read(uploadLockKey(refOf(url))));
        const moved = `${other.url}/v1/uploads/${refOf(url).id}`;
        const offset = await offsetOf(moved);
        first.req.destroy();
        expect((await patch(moved, offset, media.subarray(offset))).status).toBe(204);
        expect((await bytesOf(url)).equals(media)).toBe(true);
      });

      test('the same piece many times over is stored once', async () => {
        const other = await start();
        const media = randomBytes(700_000);
        const url = await created(media.length);
        const answers = await Promise.all(
          Array.from({ length: 6 }, (_, i) =>
            patch(`${(i % 2 ? api : other).url}/v1/uploads/${refOf(url).id}`, 0, media).catch(
              () => undefined,
            ),
          ),
        );
        for (const answer of answers) expect([204, 409, 423, undefined]).toContain(answer?.status);
        // A connection that a refused piece has left behind may end under the next request. tus clients ask again.
        await waitFor('the rest to be stored', async () => {
          const offset = await offsetOf(url).catch(unlessBroken);
          if (offset === undefined || offset === media.length) return offset;
          await patch(url, offset, media.subarray(offset)).catch(unlessBroken);
          return undefined;
        });
        expect((await bytesOf(url)).equals(media)).toBe(true);
      });

      test('the lock of an instance that died is taken over', async () => {
        const url = await created(3);
        await stores.records.create(uploadLockKey(refOf(url)), { holder: 'dead', is_wanted: false });
        api = await start({ records: agedRecords(stores.records, 11_000) });
        const moved = `${api.url}/v1/uploads/${refOf(url).id}`;
        expect((await patch(moved, 0, Buffer.from('abc'))).status).toBe(204);
      });
    });

    describe('termination', () => {
      test.each([0, 4, 10])('of an upload at %i leaves nothing of it', async (offset) => {
        const url = await created(10);
        if (offset > 0) await patch(url, 0, Buffer.from('0123456789').subarray(0, offset));
        expect(await api.queue.has(expireUploadTask(refOf(url)))).toBe(true);
        const answer = await call('DELETE', url);
        expect(answer.status).toBe(204);
        expect(answer.headers.get('tus-resumable')).toBe('1.0.0');
        expect(await stores.everything()).toEqual([]);
        expect(await api.queue.has(expireUploadTask(refOf(url)))).toBe(false);
        expect((await call('HEAD', url)).status).toBe(404);
        await expectProblem(await call('DELETE', url), 404, 'not-found');
        await expect(open(url)).rejects.toMatchObject({ slug: 'not-found' });
      });

      test('while a piece is under way ends that first', async () => {
        const url = await created(1_000_000);
        const { req, answer } = slowPatch(url, 0, 1_000_000);
        req.write(randomBytes(300_000));
        await waitFor('the lock', () => stores.records.read(uploadLockKey(refOf(url))));
        expect((await call('DELETE', url)).status).toBe(204);
        expect(await answer).toBe(204);
        req.destroy();
        expect(await stores.everything()).toEqual([]);
      });
    });

    describe('expiration', () => {
      test('makes an upload gone, whole or not, and a task removes it', async () => {
        const whole = await created(3);
        await patch(whole, 0, Buffer.from('abc'));
        const half = await created(10);
        await patch(half, 0, Buffer.from('0123'));
        nowMs += DAY_MS + 1_000;
        for (const url of [whole, half]) {
          expect((await call('HEAD', url)).status).toBe(410);
          await expectProblem(await patch(url, 4, Buffer.from('4')), 410, 'upload-gone');
          await expect(open(url)).rejects.toMatchObject({ slug: 'upload-gone' });
          const { payload } = expireUploadTask(refOf(url));
          for (let i = 0; i < 2; i++) {
            expect(await expireUpload({ ...stores, log }, payload)).toEqual({ kind: 'done' });
          }
          expect((await call('HEAD', url)).status).toBe(404);
        }
        expect(await stores.everything()).toEqual([]);
      });

      test('is on its queue before anything of the upload is in the store', async () => {
        const broken: Records = Object.create(stores.records, {
          create: {
            value: async () => {
              throw new Error('the store does not answer');
            },
          },
        }) as Records;
        api = await start({ records: broken });
        await expectProblem(await create({ 'upload-length': '3' }), 500, 'internal');
        expect(await stores.everything()).toEqual([]);
        expect(api.queue.nextDueAt(CPU_QUEUE)?.getTime()).toBeGreaterThan(Date.now() + DAY_MS);
      });
    });

    test.each(['HEAD', 'PATCH', 'DELETE'])("%s does not see another owner's upload", async (method) => {
      const url = await created(3);
      const answer = await call(
        method,
        url,
        { authorization: 'Bearer key-of-bob', ...PIECE, 'upload-offset': '0' },
        method === 'PATCH' ? Buffer.from('abc') : undefined,
      );
      expect(answer.status).toBe(404);
      expect(await offsetOf(url)).toBe(0);
      await expect(
        finishedUpload({ ...stores, now: () => nowMs }, 'bob', refOf(url).id),
      ).rejects.toMatchObject({ slug: 'not-found', extensions: { field: 'source.upload_id' } });
    });

    test.each(['GET', 'PUT'])('%s is not found', async (method) => {
      const url = await created(3);
      for (const target of [url, '/v1/uploads']) {
        const answer = await call(method, target);
        expect(answer.status).toBe(404);
        expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
      }
    });

    describe('tus-js-client', () => {
      const media = randomBytes(5_000_000);

      function upload(options: Partial<tus.UploadOptions>): Promise<{ client: tus.Upload; retries: number }> {
        let retries = 0;
        return new Promise((resolve, reject) => {
          const client: tus.Upload = new tus.Upload(media, {
            endpoint: `${api.url}/v1/uploads`,
            headers: { authorization: ANN.authorization },
            metadata: { filename: 'board.mp4', filetype: 'video/mp4' },
            chunkSize: 1_000_000,
            retryDelays: Array.from({ length: 50 }, () => 20),
            onShouldRetry: () => {
              retries += 1;
              return true;
            },
            onError: reject,
            onSuccess: () => resolve({ client, retries }),
            ...options,
          });
          client.start();
        });
      }

      test.each([Number.POSITIVE_INFINITY, 1_000_000, 333_333])(
        'uploads in pieces of %d',
        async (chunkSize) => {
          const { client } = await upload({ chunkSize });
          expect((await bytesOf(client.url as string)).equals(media)).toBe(true);
          expect(await open(client.url as string)).toMatchObject({ filename: 'board.mp4' });
        },
      );

      test('uploads with the creation', async () => {
        const { client } = await upload({ uploadDataDuringCreation: true });
        expect((await bytesOf(client.url as string)).equals(media)).toBe(true);
      });

      test('resumes by itself when connections break', async () => {
        const proxy = await startBreakingProxy(() => api.url, [700_000, 1_500_000, 1_600_000, 4_000_000]);
        try {
          // Through the proxy from the creation on: the address of the upload is as the client reached us.
          const { client, retries } = await upload({
            endpoint: `${proxy.url}/v1/uploads`,
            chunkSize: Number.POSITIVE_INFINITY,
          });
          expect(retries).toBeGreaterThan(0);
          expect(proxy.broken()).toBe(4);
          expect((await bytesOf(client.url as string)).equals(media)).toBe(true);
        } finally {
          await proxy.close();
        }
      });

      test('resumes in a later run, through another instance', async () => {
        let client: tus.Upload | undefined;
        await new Promise<void>((resolve, reject) => {
          client = new tus.Upload(media, {
            endpoint: `${api.url}/v1/uploads`,
            headers: { authorization: ANN.authorization },
            chunkSize: 1_000_000,
            onChunkComplete: (_size, accepted) => {
              if (accepted >= 2_000_000) client?.abort().then(resolve, reject);
            },
            onError: reject,
          });
          client.start();
        });
        await api.stop();
        started.splice(started.indexOf(api), 1);
        api = await start();
        const id = refOf(client?.url as string).id;
        let firstSent = 0;
        await upload({
          uploadUrl: `${api.url}/v1/uploads/${id}`,
          onChunkComplete: (size, accepted) => {
            firstSent ||= accepted - size;
          },
        });
        expect(firstSent).toBeGreaterThanOrEqual(2_000_000);
        expect((await bytesOf(id)).equals(media)).toBe(true);
      });

      test('terminates', async () => {
        const { client } = await upload({});
        await client.abort(true);
        await waitFor('the end of it', async () => (await stores.everything()).length === 0);
      });
    });
  });
}
