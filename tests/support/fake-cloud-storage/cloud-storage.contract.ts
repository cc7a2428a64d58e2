import { EventEmitter } from 'node:events';
import { Storage } from '@google-cloud/storage';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';

export interface CloudStorageUnderTest {
  url: string;
  createBucket(name: string): Promise<void>;
  dispose(): Promise<void>;
}

const KIB = 1024;
const GRAIN = 256 * KIB;

/** Facts that an emulator gets wrong, by their titles, and how. */
export type Gaps = readonly (readonly [titles: RegExp, how: string])[];

/** What Cloud Storage does, as far as this project counts on it. Each gap is checked to be one still. */
export function describeCloudStorage(
  name: string,
  start: () => Promise<CloudStorageUnderTest>,
  gaps: Gaps = [],
): void {
  const fact = (title: string, check: () => Promise<void>): void => {
    const gap = gaps.find(([titles]) => titles.test(title));
    if (gap === undefined) test(title, check);
    else test.failing(`not here: ${title} (${gap[1]})`, check);
  };

  describe(`${name} as Cloud Storage`, () => {
    let server: CloudStorageUnderTest;
    let bucket: string;

    beforeAll(async () => {
      server = await start();
    });
    afterAll(() => server.dispose());
    beforeEach(async () => {
      bucket = crypto.randomUUID();
      await server.createBucket(bucket);
    });

    const address = (path: string, query: Record<string, string | undefined> = {}): string => {
      const url = new URL(server.url + path);
      for (const [key, value] of Object.entries(query)) {
        if (value !== undefined) url.searchParams.set(key, value);
      }
      return url.href;
    };
    const object = (key: string, query: Record<string, string | undefined> = {}) =>
      address(`/storage/v1/b/${bucket}/o/${encodeURIComponent(key)}`, query);
    const upload = (query: Record<string, string | undefined>) =>
      address(`/upload/storage/v1/b/${bucket}/o`, query);

    const insertMultipart = async (metadata: object, body: string, query: Record<string, string> = {}) =>
      fetch(upload({ uploadType: 'multipart', ...query }), {
        method: 'POST',
        headers: { 'content-type': 'multipart/related; boundary=the-boundary' },
        body:
          `--the-boundary\r\ncontent-type: application/json\r\n\r\n${JSON.stringify(metadata)}\r\n` +
          `--the-boundary\r\ncontent-type: text/plain\r\n\r\n${body}\r\n--the-boundary--`,
      });
    const insert = async (key: string, body: string, query: Record<string, string> = {}) =>
      insertMultipart({ name: key }, body, query);
    const find = async (key: string) => {
      const response = await fetch(object(key));
      return response.ok ? ((await response.json()) as Resource) : undefined;
    };
    const read = async (key: string) => (await fetch(object(key, { alt: 'media' }))).text();

    describe('an object', () => {
      fact('has a size, both checksums and its times when it has been inserted', async () => {
        const response = await insert('a/b', 'data');
        expect(response.status).toBe(200);
        const stored = (await response.json()) as Resource;
        expect(stored).toMatchObject({
          kind: 'storage#object',
          name: 'a/b',
          bucket,
          size: '4',
          crc32c: 'rth90Q==',
          md5Hash: 'jXd/OF09/siBXSD3SWAm3A==',
          contentType: 'text/plain',
          metageneration: '1',
        });
        expect(stored.updated).toBe(stored.timeCreated);
        const date = Date.parse(response.headers.get('date') ?? '');
        expect(Math.abs(date - Date.parse(stored.updated))).toBeLessThanOrEqual(1_500);
        expect(await find('a/b')).toMatchObject({ generation: stored.generation, updated: stored.updated });
      });

      fact('may come without metadata', async () => {
        const init = { method: 'POST', headers: { 'content-type': 'text/x' }, body: 'data' };
        expect((await fetch(upload({ uploadType: 'media', name: 'a' }), init)).status).toBe(200);
        expect(await find('a')).toMatchObject({ contentType: 'text/x', size: '4' });
      });

      fact('has a higher generation each time', async () => {
        let last = 0n;
        for (let i = 0; i < 5; i++) {
          const { generation } = (await (await insert('a', 'x')).json()) as Resource;
          expect(BigInt(generation)).toBeGreaterThan(last);
          last = BigInt(generation);
        }
      });

      fact('gets its name, type and metadata from the first part of a multipart body', async () => {
        const metadata = {
          name: 'a',
          contentType: 'text/plain',
          cacheControl: 'no-store',
          metadata: { k: 'ü' },
        };
        const response = await insertMultipart(metadata, 'line\r\n--no-boundary\r\n');
        expect(await response.json()).toMatchObject(metadata);
        expect(await find('a')).toMatchObject(metadata);
        expect(await read('a')).toBe('line\r\n--no-boundary\r\n');
      });

      for (const [what, declared] of [
        ['CRC32C', { crc32c: 'AAAAAA==' }],
        ['MD5', { md5Hash: '1B2M2Y8AsgTpgAmY7PhCfg==' }],
      ] as const) {
        fact(`is refused when it does not have the declared ${what}`, async () => {
          const response = await insertMultipart({ name: 'a', ...declared }, 'data');
          expect(response.status).toBe(400);
          expect(await errorOf(response)).toMatchObject({ code: 400, errors: [{ reason: 'invalid' }] });
          expect(await find('a')).toBeUndefined();
        });
      }

      fact('that is not there is 404 in JSON, and in plain text to who wants the bytes', async () => {
        const response = await fetch(object('no'));
        expect(response.status).toBe(404);
        expect(await errorOf(response)).toEqual({
          code: 404,
          message: `No such object: ${bucket}/no`,
          errors: [{ message: `No such object: ${bucket}/no`, domain: 'global', reason: 'notFound' }],
        });
        const bytes = await fetch(object('no', { alt: 'media' }));
        expect([bytes.status, await bytes.text()]).toEqual([404, `No such object: ${bucket}/no`]);
      });

      fact('keeps metadata that a patch does not name, and loses what it sets to null', async () => {
        await insertMultipart({ name: 'a', metadata: { keep: '1', drop: '2' } }, 'data');
        const body = JSON.stringify({ metadata: { drop: null, add: '3' } });
        const headers = { 'content-type': 'application/json' };
        await fetch(object('a'), { method: 'PATCH', headers, body });
        expect(await find('a')).toMatchObject({ metageneration: '2', metadata: { keep: '1', add: '3' } });
        expect((await find('a'))?.metadata).not.toHaveProperty('drop');
      });

      fact('is gone when it was deleted', async () => {
        await insert('a', 'x');
        expect((await fetch(object('a'), { method: 'DELETE' })).status).toBe(204);
        expect(await find('a')).toBeUndefined();
        expect((await fetch(object('a'), { method: 'DELETE' })).status).toBe(404);
      });

      fact('shows only the fields that were asked for', async () => {
        await insert('a', 'x');
        const response = await fetch(object('a', { fields: 'name,size' }));
        expect(await response.json()).toEqual({ name: 'a', size: '1' });
      });
    });

    // `is`: the generation or metageneration that the object has; `other`: another one.
    const CONDITIONS = [
      ['ifGenerationMatch', 'is', true],
      ['ifGenerationMatch', 'other', false],
      ['ifGenerationMatch', '0', false],
      ['ifGenerationNotMatch', 'is', false],
      ['ifGenerationNotMatch', 'other', true],
      ['ifMetagenerationMatch', 'is', true],
      ['ifMetagenerationMatch', 'other', false],
      ['ifMetagenerationNotMatch', 'is', false],
      ['ifMetagenerationNotMatch', 'other', true],
    ] as const;
    const OPERATIONS: Record<string, (query: Record<string, string>) => Promise<Response>> = {
      insert: (query) => insert('a', 'new', query),
      'start of a session': (query) =>
        fetch(upload({ uploadType: 'resumable', name: 'a', ...query }), { method: 'POST' }),
      get: (query) => fetch(object('a', query)),
      download: (query) => fetch(object('a', { alt: 'media', ...query })),
      patch: (query) => fetch(object('a', query), { method: 'PATCH', body: '{"contentType":"text/y"}' }),
      delete: (query) => fetch(object('a', query), { method: 'DELETE' }),
      copy: (query) =>
        fetch(address(`/storage/v1/b/${bucket}/o/from/rewriteTo/b/${bucket}/o/a`, query), {
          method: 'POST',
        }),
    };
    for (const [operation, ask] of Object.entries(OPERATIONS)) {
      describe(`${operation} with a precondition`, () => {
        for (const [condition, value, holds] of CONDITIONS) {
          const isNews = !holds && condition.endsWith('NotMatch') && ['get', 'download'].includes(operation);
          const expected = holds ? 200 : isNews ? 304 : 412;
          fact(`${operation}: ${condition}=${value} gives ${expected}`, async () => {
            await insert('from', 'x');
            const { generation } = (await (await insert('a', 'old')).json()) as Resource;
            const is = condition.includes('Meta') ? '1' : generation;
            const asked = { is, other: String(BigInt(is) + 1n), '0': '0' }[value];
            const response = await ask({ [condition]: asked });
            expect(response.status === 204 ? 200 : response.status).toBe(expected);
            if (!holds) expect(await find('a')).toMatchObject({ generation, metageneration: '1', size: '3' });
          });
        }
      });
    }

    fact('a precondition that does not hold is conditionNotMet', async () => {
      await insert('a', 'x');
      const response = await insert('a', 'y', { ifGenerationMatch: '0' });
      expect(await errorOf(response)).toMatchObject({ code: 412, errors: [{ reason: 'conditionNotMet' }] });
    });

    for (const [query, expected] of [
      [{ ifGenerationMatch: '0' }, 200],
      [{ ifGenerationMatch: '5' }, 412],
      [{ ifGenerationNotMatch: '0' }, 412],
      [{ ifMetagenerationMatch: '1' }, 412],
    ] as const) {
      fact(`an insert where nothing is, with ${new URLSearchParams(query)}, gives ${expected}`, async () => {
        expect((await insert('a', 'x', query)).status).toBe(expected);
        expect((await find('a')) !== undefined).toBe(expected === 200);
      });
    }

    fact('an old generation is not there any more', async () => {
      const { generation } = (await (await insert('a', 'old')).json()) as Resource;
      await insert('a', 'new');
      expect((await fetch(object('a', { generation }))).status).toBe(404);
      expect((await fetch(object('a', { generation, alt: 'media' }))).status).toBe(404);
      expect((await fetch(object('a', { generation }), { method: 'DELETE' })).status).toBe(404);
      expect(await read('a')).toBe('new');
    });

    describe('a download', () => {
      fact('says which generation it is, from when, and what it should add up to', async () => {
        const stored = (await (await insert('a', 'data')).json()) as Resource;
        const { headers } = await fetch(object('a', { alt: 'media' }));
        expect(headers.get('x-goog-generation')).toBe(stored.generation);
        expect(headers.get('x-goog-hash')).toMatch(/crc32c=rth90Q==/);
        expect(headers.get('content-length')).toBe('4');
        const lastModified = Date.parse(headers.get('last-modified') ?? '');
        expect(lastModified).toBe(Math.floor(Date.parse(stored.updated) / 1_000) * 1_000);
        const age = Date.parse(headers.get('date') ?? '') - lastModified;
        expect(age).toBeGreaterThanOrEqual(0);
        expect(age).toBeLessThanOrEqual(2_000);
      });

      for (const [range, status, contentRange, text] of [
        ['bytes=0-3', 206, 'bytes 0-3/10', '0123'],
        ['bytes=3-', 206, 'bytes 3-9/10', '3456789'],
        ['bytes=8-50', 206, 'bytes 8-9/10', '89'],
        ['bytes=-2', 206, 'bytes 8-9/10', '89'],
        ['bytes=10-', 416, 'bytes */10', undefined],
      ] as const) {
        fact(`of ${range} of ten bytes gives ${status}`, async () => {
          await insert('a', '0123456789');
          const response = await fetch(object('a', { alt: 'media' }), { headers: { range } });
          expect(response.status).toBe(status);
          expect(response.headers.get('content-range')).toBe(contentRange);
          if (text !== undefined) expect(await response.text()).toBe(text);
        });
      }

      fact('of a range of nothing gives 416', async () => {
        await insert('a', '');
        const response = await fetch(object('a', { alt: 'media' }), { headers: { range: 'bytes=0-' } });
        expect(response.status).toBe(416);
      });
    });

    describe('a list', () => {
      const list = async (query: Record<string, string>) => {
        const response = await fetch(address(`/storage/v1/b/${bucket}/o`, query));
        return (await response.json()) as { items?: Resource[]; prefixes?: string[]; nextPageToken?: string };
      };
      const KEYS = ['a', 'b-c', 'b/1', 'b/2', 'b/2/x', 'b0', 'c'];
      beforeEach(async () => {
        for (const key of KEYS) await insert(key, key);
      });

      fact('has what begins with the prefix, from an offset on, in the order of the bytes', async () => {
        const names = async (query: Record<string, string>) =>
          (await list(query)).items?.map((item) => item.name);
        expect(await names({})).toEqual(KEYS);
        expect(await names({ prefix: 'b/' })).toEqual(['b/1', 'b/2', 'b/2/x']);
        expect(await names({ prefix: 'b', startOffset: 'b/2' })).toEqual(['b/2', 'b/2/x', 'b0']);
        expect(await names({ startOffset: 'b/', endOffset: 'b/2' })).toEqual(['b/1']);
        expect(await names({ prefix: 'no' })).toBeUndefined();
      });

      fact('comes in pages', async () => {
        const found: string[] = [];
        for (let pageToken: string | undefined = ''; pageToken !== undefined; ) {
          const page: Awaited<ReturnType<typeof list>> = await list({
            maxResults: '3',
            ...(pageToken === '' ? {} : { pageToken }),
          });
          expect(page.items?.length).toBeLessThanOrEqual(3);
          found.push(...(page.items ?? []).map((item) => item.name));
          pageToken = page.nextPageToken;
        }
        expect(found).toEqual(KEYS);
      });

      fact('with a delimiter has folders', async () => {
        const { items, prefixes } = await list({ prefix: 'b/', delimiter: '/' });
        expect([items?.map((item) => item.name), prefixes]).toEqual([['b/1', 'b/2'], ['b/2/']]);
      });

      fact('shows only the fields that were asked for', async () => {
        const page = await list({ prefix: 'b/1', fields: 'items(name,size),nextPageToken' });
        expect(page).toEqual({ items: [{ name: 'b/1', size: '3' }] });
      });
    });

    describe('a resumable session', () => {
      const begin = async (query: Record<string, string> = {}, headers: Record<string, string> = {}) => {
        const url = upload({ uploadType: 'resumable', name: 'a', ...query });
        const response = await fetch(url, { method: 'POST', headers, body: '{"contentType":"text/x"}' });
        expect(response.status).toBe(200);
        return response.headers.get('location') ?? '';
      };
      const put = async (session: string, range: string, body = '', headers: Record<string, string> = {}) => {
        const init = { method: 'PUT', headers: { 'content-range': `bytes ${range}`, ...headers }, body };
        const response = await fetch(session, init);
        const text = await response.text();
        return { status: response.status, range: response.headers.get('range'), text };
      };
      const A = 'a'.repeat(GRAIN);
      const B = 'b'.repeat(GRAIN);

      fact('stores chunks, shows nothing until the last, and answers that with the object', async () => {
        const session = await begin();
        expect(await put(session, `0-${GRAIN - 1}/*`, A)).toMatchObject({
          status: 308,
          range: `bytes=0-${GRAIN - 1}`,
        });
        expect(await find('a')).toBeUndefined();
        const end = await put(session, `${GRAIN}-${GRAIN + 2}/${GRAIN + 3}`, 'end');
        expect(end.status).toBe(200);
        expect(JSON.parse(end.text)).toMatchObject({
          name: 'a',
          size: String(GRAIN + 3),
          contentType: 'text/x',
        });
        expect((await read('a')) === `${A}end`).toBe(true);
      });

      fact('says how much it has, and nothing when it has nothing', async () => {
        const session = await begin();
        expect(await put(session, '*/*')).toMatchObject({ status: 308, range: null });
        await put(session, `0-${GRAIN - 1}/*`, A);
        expect(await put(session, '*/*')).toMatchObject({ status: 308, range: `bytes=0-${GRAIN - 1}` });
        expect(await put(session, `*/${2 * GRAIN}`)).toMatchObject({
          status: 308,
          range: `bytes=0-${GRAIN - 1}`,
        });
        await put(session, `${GRAIN}-${2 * GRAIN - 1}/${2 * GRAIN}`, B);
        expect((await read('a')) === A + B).toBe(true);
      });

      fact('answers with the object again when it has ended', async () => {
        const session = await begin();
        const { text } = await put(session, '0-2/3', 'all');
        const { generation } = JSON.parse(text) as Resource;
        for (const again of [await put(session, '*/3'), await put(session, '0-2/3', 'all')]) {
          expect(again.status).toBe(200);
          expect(JSON.parse(again.text)).toMatchObject({ generation });
        }
        expect(await find('a')).toMatchObject({ generation });
      });

      fact('keeps whole multiples of 256 KiB of a chunk that is not the last', async () => {
        const session = await begin();
        const answer = await put(session, `0-${GRAIN + 9}/*`, `${A}0123456789`);
        expect(answer).toMatchObject({ status: 308, range: `bytes=0-${GRAIN - 1}` });
      });

      fact('refuses a chunk below 256 KiB that is not the last', async () => {
        const answer = await put(await begin(), '0-9/*', '0123456789');
        expect(answer.status).toBe(400);
        expect(answer.text).toMatch(/required to be equal or greater than 262144/);
      });

      fact('does not take bytes twice', async () => {
        const session = await begin();
        await put(session, `0-${GRAIN - 1}/*`, A);
        expect(await put(session, `0-${2 * GRAIN - 1}/${2 * GRAIN}`, A + B)).toMatchObject({ status: 200 });
        expect((await read('a')) === A + B).toBe(true);
      });

      fact('refuses bytes that leave a gap', async () => {
        const session = await begin();
        const answer = await put(session, `${GRAIN}-${2 * GRAIN - 1}/${2 * GRAIN}`, B);
        expect(answer.status).toBeGreaterThanOrEqual(400);
        expect(await put(session, '*/*')).toMatchObject({ status: 308, range: null });
      });

      fact('takes a body without a known end in one go', async () => {
        expect(await put(await begin(), '0-*/*', 'all of it')).toMatchObject({ status: 200 });
        expect(await read('a')).toBe('all of it');
      });

      fact('goes on without a known end where it was', async () => {
        const session = await begin();
        await put(session, `0-${GRAIN - 1}/*`, A);
        expect(await put(session, `${GRAIN}-*/*`, 'rest')).toMatchObject({ status: 200 });
        expect((await read('a')) === `${A}rest`).toBe(true);
      });

      fact('makes an empty object', async () => {
        expect(await put(await begin(), '*/0')).toMatchObject({ status: 200 });
        expect(await find('a')).toMatchObject({ size: '0', crc32c: 'AAAAAA==' });
      });

      fact('answers 499 when it is canceled, and takes nothing any more', async () => {
        const session = await begin();
        await put(session, `0-${GRAIN - 1}/*`, A);
        expect((await fetch(session, { method: 'DELETE' })).status).toBe(499);
        const answer = await put(session, `${GRAIN}-${GRAIN}/${GRAIN + 1}`, 'x');
        expect(answer.status).toBeGreaterThanOrEqual(400);
        expect(await find('a')).toBeUndefined();
      });

      fact('that does not exist is 404', async () => {
        expect((await put(upload({ uploadType: 'resumable', upload_id: 'no' }), '*/*')).status).toBe(404);
      });

      fact('refuses a body that does not have the checksum of its last request', async () => {
        const session = await begin();
        await put(session, `0-${GRAIN - 1}/*`, A);
        const answer = await put(session, `${GRAIN}-${GRAIN + 2}/${GRAIN + 3}`, 'end', {
          'x-goog-hash': 'crc32c=AAAAAA==',
        });
        expect(answer.status).toBe(400);
        expect(await find('a')).toBeUndefined();
      });

      fact('ends only if its precondition still holds', async () => {
        const session = await begin({ ifGenerationMatch: '0' });
        await insert('a', 'faster');
        expect((await put(session, '0-3/4', 'late')).status).toBe(412);
        expect(await read('a')).toBe('faster');
      });

      fact('has the size that was said at its start', async () => {
        const session = await begin({}, { 'x-upload-content-length': '5' });
        expect((await put(session, '0-2/3', 'all')).status).toBe(400);
        expect(await find('a')).toBeUndefined();
      });
    });

    describe('to its Node client', () => {
      // A download by the client adds listeners for each piece that comes.
      const { defaultMaxListeners } = EventEmitter;
      beforeAll(() => {
        EventEmitter.defaultMaxListeners = 1_000;
      });
      afterAll(() => {
        EventEmitter.defaultMaxListeners = defaultMaxListeners;
      });
      const open = () => new Storage({ apiEndpoint: server.url, projectId: 'project' }).bucket(bucket);

      for (const [how, options] of [
        ['in one request', { resumable: false }],
        ['in one go of a session', { resumable: true }],
        ['in chunks', { resumable: true, chunkSize: GRAIN }],
      ] as const) {
        fact(`takes a file ${how}, and gives it back checked`, async () => {
          const text = A_LINE.repeat(20_000);
          const file = open().file('a/b c');
          await file.save(text, {
            ...options,
            preconditionOpts: { ifGenerationMatch: 0 },
            contentType: 'text/x',
          });
          const [downloaded] = await file.download();
          expect(String(downloaded) === text).toBe(true);
          const [part] = await file.download({ start: 2, end: 5 });
          expect(String(part)).toBe(text.slice(2, 6));
          await expect(
            file.save('x', { ...options, preconditionOpts: { ifGenerationMatch: 0 } }),
          ).rejects.toMatchObject({ code: 412 });
        });
      }

      fact('lists, changes metadata, copies and deletes', async () => {
        const to = open();
        for (const key of ['a/1', 'a/2', 'b']) await to.file(key).save(key, { resumable: false });
        const [files] = await to.getFiles({ prefix: 'a/' });
        expect(files.map((file) => file.name)).toEqual(['a/1', 'a/2']);
        await to.file('a/1').setMetadata({ metadata: { k: 'v' } });
        const [metadata] = await to.file('a/1').getMetadata();
        expect(metadata).toMatchObject({ metadata: { k: 'v' }, metageneration: '2', size: '3' });
        await to.file('a/1').copy(to.file('c'));
        expect(String((await to.file('c').download())[0])).toBe('a/1');
        await to
          .file('c')
          .delete({ ifGenerationMatch: Number((await to.file('c').getMetadata())[0].generation) });
        expect(await to.file('c').exists()).toEqual([false]);
      });

      fact('hands out sessions that others send to', async () => {
        const file = open().file('a');
        const [session] = await file.createResumableUpload({
          metadata: { contentType: 'text/x', contentLength: 3 },
          preconditionOpts: { ifGenerationMatch: 0 },
        });
        const sent = await fetch(session, { method: 'PUT', body: 'all' });
        expect(sent.status).toBe(200);
        expect(await read('a')).toBe('all');
      });
    });
  });
}

const A_LINE = 'a line of a text\n';

interface Resource {
  name: string;
  generation: string;
  updated: string;
  timeCreated: string;
  metadata?: Record<string, string>;
}

async function errorOf(response: Response): Promise<unknown> {
  return ((await response.json()) as { error: unknown }).error;
}
