import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { writeCapabilities } from '../../core/capabilities.ts';
import { JobRecord } from '../../core/job.ts';
import { activeKey, idempotencyKey, jobKey, mediaKey } from '../../core/objects.ts';
import { jobTask } from '../../core/tasks/task.ts';
import { type StartedApi, startApi } from '../../tests/support/start-api.ts';
import { waitFor } from '../../tests/support/wait-for.ts';
import type { viewTranscription } from '../transcription-view.ts';

type TranscriptionView = ReturnType<typeof viewTranscription>;

const MEDIA = randomBytes(100_000);
let api: StartedApi;

beforeEach(async () => {
  api = await startApi({ maxUploadBytes: 200_000, gcsSources: [{ bucket: 'media', prefix: '' }] });
});
afterEach(() => api.stop());

function form(fields: Record<string, string> = {}, media: Uint8Array<ArrayBuffer> = MEDIA, name = 'a.mp3') {
  const body = new FormData();
  for (const [field, value] of Object.entries(fields)) body.append(field, value);
  body.append('file', new Blob([media], { type: 'audio/mpeg' }), name);
  return body;
}

function post(body: string | FormData, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${api.url}/v1/transcriptions`, { method: 'POST', body, headers });
}

const viewOf = async (answer: Response) => (await answer.json()) as TranscriptionView;
const problemOf = async (answer: Response) => (await answer.json()) as Record<string, unknown>;

async function expectProblem(answer: Response, status: number, slug: string, field?: string) {
  const problem = await problemOf(answer);
  expect(problem).toMatchObject({
    type: `urn:zeroscribe:problem:${slug}`,
    status,
    ...(field === undefined ? {} : { field }),
  });
  expect(answer.status).toBe(status);
  expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
  expect(problem.instance).toBe('/v1/transcriptions');
  expect(problem.request_id).toBe(answer.headers.get('x-request-id'));
  return problem;
}

function name(body: object, headers: Record<string, string> = {}): Promise<Response> {
  return post(JSON.stringify(body), { 'content-type': 'application/json', ...headers });
}

describe('a source that is named', () => {
  test.each([
    [{ url: 'https://example.com/talks/b%C3%B6rd.mp3?signature=1' }, 'url', 'börd.mp3', 'audio/mpeg'],
    [{ gcs_uri: 'gs://media/talks/board.mp4' }, 'gcs', 'board.mp4', 'video/mp4'],
  ])('%j becomes a job whose media ingest fetches', async (source, type, filename, contentType) => {
    const answer = await name({ source, language: 'en', audio_track: 1 });
    expect(answer.status).toBe(202);
    const view = await viewOf(answer);
    expect(view).toMatchObject({
      source: { type, filename, bytes: null, ...source },
      options: { language: 'en', audio_track: 1 },
    });
    const job = { owner: 'local', id: view.id };
    const record = JobRecord.parse((await api.records.read(jobKey(job)))?.value);
    expect(record.objects.media).toBeNull();
    expect(record.source.content_type).toBe(contentType);
    expect(await api.everything()).toEqual([activeKey(job), jobKey(job)]);
  });

  test('as an upload becomes a job with a copy of it, so that it can be used again', async () => {
    const uploadId = await upload(MEDIA);
    const first = await viewOf(await name({ source: { upload_id: uploadId } }));
    const second = await viewOf(await name({ source: { upload_id: uploadId }, language: 'en' }));
    for (const view of [first, second]) {
      expect(view.source).toEqual({
        type: 'upload',
        filename: 'a.mp3',
        bytes: MEDIA.length,
        upload_id: uploadId,
      });
      expect(Buffer.from(await (await fetch(view.urls.media)).arrayBuffer()).equals(MEDIA)).toBe(true);
    }
    await fetch(first.urls.self, { method: 'DELETE' });
    expect((await fetch(second.urls.media)).status).toBe(200);
  });

  test('is the same for an idempotency key when its address is', async () => {
    const headers = { 'idempotency-key': 'order 18' };
    const source = { url: 'https://example.com/a.mp3' };
    const first = await viewOf(await name({ source }, headers));
    const again = await name({ source }, headers);
    expect([again.status, (await viewOf(again)).id]).toEqual([200, first.id]);
    const other = await name({ source: { url: 'https://example.com/b.mp3' } }, headers);
    await expectProblem(other, 422, 'idempotency-mismatch');
    expect(await api.everything()).toHaveLength(3);
  });

  async function upload(bytes: Buffer): Promise<string> {
    const answer = await fetch(`${api.url}/v1/uploads`, {
      method: 'POST',
      body: new Uint8Array(bytes),
      headers: {
        'tus-resumable': '1.0.0',
        'upload-length': String(bytes.length),
        'upload-metadata': `filename ${btoa('a.mp3')}`,
        'content-type': 'application/offset+octet-stream',
      },
    });
    expect([answer.status, answer.headers.get('upload-offset')]).toEqual([201, String(bytes.length)]);
    return answer.headers.get('location')?.split('/').at(-1) ?? '';
  }
});

describe('a good upload', () => {
  test('becomes a stored file, a queued job, a task for ingest and a marker', async () => {
    const answer = await post(form({ language: 'en', metadata: '{"case":"7"}' }));
    expect(answer.status).toBe(202);
    const view = await viewOf(answer);
    expect(answer.headers.get('location')).toBe(`${api.url}/v1/transcriptions/${view.id}`);
    expect(answer.headers.get('retry-after')).toBe('2');
    expect(view).toMatchObject({
      object: 'transcription',
      status: 'queued',
      stage: null,
      progress: { percent: 0, stages: [] },
      source: { type: 'upload', filename: 'a.mp3', bytes: MEDIA.length },
      options: { language: 'en', tier: 'premium', model: null },
      metadata: { case: '7' },
      attempt: 1,
      usage: [],
      cost: {
        marginal_usd: 0,
        attributed_usd: null,
        gpu_seconds: 0,
        unconfirmed_usd: 0,
        storage_usd_per_month: 0,
        basis: 'your own machine',
        parts: [],
      },
      urls: { self: answer.headers.get('location') },
    });

    const job = { owner: 'local', id: view.id };
    const record = JobRecord.parse((await api.records.read(jobKey(job)))?.value);
    expect(record.source.sha256).toBe(createHash('sha256').update(MEDIA).digest('hex'));
    expect(record.task).toEqual({ queue: 'cpu', name: jobTask('cpu', job, 'ingest', 1).name });
    expect(await api.queue.has(record.task as NonNullable<typeof record.task>)).toBe(true);
    expect(await api.everything()).toEqual([mediaKey(job), activeKey(job), jobKey(job)]);
    const stored: Buffer[] = [];
    for await (const piece of await api.blobs.read(mediaKey(job))) stored.push(piece as Buffer);
    expect(Buffer.concat(stored).equals(MEDIA)).toBe(true);
  });

  test('may have its options after the file, even those that mend one before it', async () => {
    const body = form({ num_speakers: '2' });
    body.append('diarize', 'true');
    const view = await viewOf(await post(body));
    expect(view.options).toMatchObject({ diarize: true, num_speakers: 2 });
  });

  test.each([
    ['../../etc/passwd.mp3', 'passwd.mp3'],
    ['C:\\Users\\me\\board.mp4', 'board.mp4'],
    ['Köln – 会議 🎤.mp3', 'Köln – 会議 🎤.mp3'],
    ['bad\u202Ename\r\n".mp3', 'badname".mp3'],
    [`${'ä'.repeat(5_000)}.mp3`, `${'ä'.repeat(125)}.mp3`],
    ['..', null],
  ])('called %j is remembered as %j', async (name, remembered) => {
    const view = await viewOf(await post(form({}, MEDIA, name)));
    expect(view.source.filename).toBe(remembered);
    expect(await api.everything()).toContain(mediaKey({ owner: 'local', id: view.id }));
  });

  test.each(['application/octet-stream', 'video/mp4', 'application/ogg', 'application/x-unheard-of', ''])(
    'of type %j is accepted',
    async (type) => {
      const body = new FormData();
      body.append('file', new Blob([MEDIA], { type }), 'a.bin');
      expect((await post(body)).status).toBe(202);
    },
  );

  test.each([
    ['application/octet-stream', 'talk.wav', 'audio/wav'],
    ['', 'Talk.M4A', 'audio/mp4'],
    ['text/plain', 'talk.mkv', 'video/x-matroska'],
    ['audio/mpeg', 'talk.wav', 'audio/mpeg'],
    ['application/octet-stream', 'page.html', 'application/octet-stream'],
    ['application/octet-stream', 'talk', 'application/octet-stream'],
  ])('of type %j called %s is kept as %s', async (type, name, kept) => {
    const body = new FormData();
    body.append('file', new Blob([MEDIA], { type }), name);
    const { id } = await viewOf(await post(body));
    const { value } = (await api.records.read(jobKey({ owner: 'local', id }))) ?? {};
    expect(JobRecord.parse(value).source.content_type).toBe(kept);
  });

  test('takes the model from what the backend says it can', async () => {
    await writeCapabilities(api.records, 'standalone', {
      default_model: 'tiny.en',
      models: [{ name: 'tiny.en', is_multilingual: false, can_translate: false }],
      alignment_languages: [],
      can_diarize: false,
    });
    expect((await viewOf(await post(form()))).options.model).toBe('tiny.en');
    await expectProblem(await post(form({ language: 'de' })), 422, 'language-not-available', 'language');
    await expectProblem(await post(form({ diarize: '1' })), 422, 'diarization-not-configured', 'diarize');
    await expectProblem(await post(form({ model: 'huge' })), 422, 'model-not-available', 'model');
  });
});

describe('a bad upload leaves nothing behind', () => {
  afterEach(async () => {
    expect(await api.everything()).toEqual([]);
  });

  test.each([
    [{ colour: 'red' }, 'invalid-option', 'colour'],
    [{ language: 'xx' }, 'invalid-option', 'language'],
    [{ diarize: 'true', min_speakers: '3', max_speakers: '2' }, 'invalid-option', 'min_speakers'],
    [{ num_speakers: '2' }, 'invalid-option', 'num_speakers'],
    [{ webhook_url: 'https://example.com' }, 'not-supported', 'webhook_url'],
  ])('with the options %j', async (fields: Record<string, string>, slug, field) => {
    await expectProblem(await post(form(fields)), 422, slug, field);
    const after = form();
    for (const [name, value] of Object.entries(fields)) after.append(name, value);
    await expectProblem(await post(after), 422, slug, field);
  });

  test('of no bytes', async () => {
    await expectProblem(await post(form({}, new Uint8Array())), 422, 'media-empty');
  });

  test('that is too large, with and without saying so beforehand', async () => {
    const media = new Uint8Array(500_000);
    expect(await expectProblem(await post(form({}, media)), 413, 'media-too-large')).toMatchObject({
      max_bytes: 200_000,
    });
    const slightly = new Uint8Array(200_001);
    await expectProblem(await post(form({}, slightly)), 413, 'media-too-large');
  });

  test.each(['text/html', 'application/pdf', 'application/json', 'application/zip', 'image/png'])(
    'of type %s',
    async (type) => {
      const body = new FormData();
      body.append('file', new Blob([MEDIA], { type }), 'a.mp3');
      await expectProblem(await post(body), 415, 'media-type-not-supported', 'file');
    },
  );

  test('of two files, of none, or in another field', async () => {
    const two = form();
    two.append('file', new Blob([MEDIA]), 'b.mp3');
    await expectProblem(await post(two), 400, 'invalid-request', 'file');
    await expectProblem(await post(new FormData()), 400, 'invalid-request');
    const none = new FormData();
    none.append('language', 'en');
    await expectProblem(await post(none), 400, 'invalid-request', 'file');
    const other = form();
    other.append('video', new Blob([MEDIA]), 'b.mp3');
    await expectProblem(await post(other), 400, 'invalid-request', 'file');
  });

  test('refused while the store is still busy with it', async () => {
    const write = api.blobs.write.bind(api.blobs);
    api.blobs.write = async (key, body, { contentType }) => {
      for await (const _ of body as AsyncIterable<unknown>);
      await new Promise((resolve) => setTimeout(resolve, 100));
      return write(key, 'it came late', { contentType });
    };
    const two = form();
    two.append('file', new Blob([MEDIA]), 'b.mp3');
    await expectProblem(await post(two), 400, 'invalid-request', 'file');
    await new Promise((resolve) => setTimeout(resolve, 150));
  });

  test('that is no form, or a broken one', async () => {
    await expectProblem(await post('hello'), 400, 'invalid-request');
    await expectProblem(await post(''), 400, 'invalid-request');
    const bare = request(`${api.url}/v1/transcriptions`, { method: 'POST' });
    bare.removeHeader('content-length');
    bare.removeHeader('transfer-encoding');
    bare.end();
    const [answer] = await once(bare, 'response');
    answer.resume();
    expect(answer.statusCode).toBe(400);
    const type = 'multipart/form-data; boundary=x';
    await expectProblem(await post('no boundary', { 'content-type': type }), 400, 'upload-interrupted');
    await expectProblem(await post('x', { 'content-type': 'multipart/form-data' }), 400, 'invalid-request');
    const half = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\nhalf of it';
    await expectProblem(await post(half, { 'content-type': type }), 400, 'upload-interrupted');
    const many = new FormData();
    for (let i = 0; i < 100; i++) many.append(`field-${i}`, '');
    await expectProblem(await post(many), 400, 'invalid-request');
  });

  test.each([
    ['{}', 422, 'invalid-option'],
    ['[]', 422, 'invalid-option'],
    ['{"source": "https://example.com/a.mp3"}', 422, 'invalid-option'],
    ['{"source": {"url": 7}}', 422, 'invalid-option'],
    ['{"source": {"url": "https://example.com/a.mp3", "gcs_uri": "gs://b/a.mp3"}}', 422, 'invalid-option'],
    ['{"source": {"path": "/etc/passwd"}}', 422, 'invalid-option'],
    ['{"source": {"url": "http://example.com/a.mp3"}}', 422, 'link-refused'],
    ['{"source": {"url": "https://127.0.0.1/a.mp3"}}', 422, 'link-refused'],
    ['{"source": {"gcs_uri": "gs://secrets/a.mp3"}}', 422, 'gcs-source-refused'],
    ['{"source": {"upload_id": "up_0000000000000000000"}}', 404, 'not-found'],
    ['{"source": {"upload_id": "../../etc/passwd"}}', 404, 'not-found'],
    ['{"source":', 400, 'invalid-request'],
    [JSON.stringify('x'.repeat(100_000)), 400, 'invalid-request'],
  ])('by the JSON %.80s', async (body, status, slug) => {
    await expectProblem(await post(body, { 'content-type': 'application/json' }), status, slug);
    expect(await api.everything()).toEqual([]);
  });

  test('that asks for its transcript beside a source that is not an object', async () => {
    const answer = await post(form({ save_beside_source: 'srt' }));
    await expectProblem(answer, 422, 'invalid-option', 'save_beside_source');
    const body = { source: { url: 'https://example.com/a.mp3' }, save_beside_source: 'srt' };
    await expectProblem(await name(body), 422, 'invalid-option', 'save_beside_source');
  });

  test('under a key that is too long', async () => {
    await expectProblem(await post(form(), { 'idempotency-key': 'k'.repeat(256) }), 400, 'invalid-request');
  });

  test('whose client goes away in the middle', async () => {
    const socket = await halfAnUpload('Content-Type: audio/mpeg');
    await waitFor('the marker', async () => (await api.everything()).length === 1);
    socket.destroy();
    await waitFor('nothing to be left', async () => (await api.everything()).length === 0);
    const line = await waitFor('the line in the log', () =>
      api.log.find((text) => text.includes('"is_aborted":true')),
    );
    expect(JSON.parse(line)).toMatchObject({ method: 'POST', status: null });
    expect(api.log.join('')).not.toContain('"severity":"ERROR"');
  });

  test('is refused before the file has been sent, when the fields in front of it are wrong', async () => {
    const socket = await halfAnUpload('Content-Type: audio/mpeg', { model: '' });
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 422 [\s\S]*"field":"model"/);
    socket.destroy();
  });

  test('is refused before the file has been sent, when it is not media', async () => {
    const socket = await halfAnUpload('Content-Type: application/pdf');
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 415 /);
    socket.destroy();
  });
});

/** The head of a form, its fields and the beginning of its file; the rest never comes. */
async function halfAnUpload(partHeader: string, fields: Record<string, string> = {}): Promise<Socket> {
  const socket = connect(api.port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  const parts = Object.entries(fields).map(
    ([name, value]) => `--x\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  );
  socket.write(
    `POST /v1/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 150000\r\n` +
      `Content-Type: multipart/form-data; boundary=x\r\n\r\n${parts.join('')}` +
      `--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n${partHeader}\r\n\r\n`,
  );
  socket.write(randomBytes(70_000));
  return socket;
}

describe('a full disk', () => {
  test.each([
    ['at once', 0],
    ['after it has cleared away', 20],
  ])('is one problem, 507, and nothing is kept, when the store says so %s', async (_when, rounds) => {
    const full = Object.assign(new Error('no space left'), { code: 'ENOSPC' });
    const write = api.blobs.write.bind(api.blobs);
    api.blobs.write = async (key, body, options) => {
      if (typeof body === 'string' || body instanceof Uint8Array) return write(key, body, options);
      for await (const _ of body) break;
      // To whoever reads the form it is a broken one meanwhile.
      for (let round = 0; round < rounds; round++) await new Promise((resolve) => setImmediate(resolve));
      throw full;
    };
    await expectProblem(await post(form()), 507, 'storage-full');
    expect(await api.everything()).toEqual([]);
  });

  test('of the database, once the file is there, too', async () => {
    const create = api.records.create.bind(api.records);
    api.records.create = async (key, value, options) => {
      if (key.startsWith('jobs/')) {
        throw Object.assign(new Error('full'), { code: 'ERR_SQLITE_ERROR', errcode: 13 });
      }
      return create(key, value, options);
    };
    await expectProblem(await post(form()), 507, 'storage-full');
    expect(await api.everything()).toEqual([]);
  });

  test('of the queue alone costs the client nothing, because reconcile gives the job its task', async () => {
    const enqueue = api.queue.enqueue.bind(api.queue);
    api.queue.enqueue = async (task, options) => {
      if (task.payload.type === 'ingest') throw new Error('the queue is away');
      return enqueue(task, options);
    };
    const view = await viewOf(await post(form()));
    expect(await api.everything()).toContain(activeKey({ owner: 'local', id: view.id }));
  });
});

describe('an Idempotency-Key', () => {
  const headers = { 'idempotency-key': 'order 66' };

  test('sent twice makes one job, and the second answer is 200', async () => {
    const first = await post(form({ language: 'en' }), headers);
    const second = await post(form({ language: 'en' }, MEDIA, 'other-name.mp3'), headers);
    expect([first.status, second.status]).toEqual([202, 200]);
    const { id } = await viewOf(first);
    expect((await viewOf(second)).id).toBe(id);
    const job = { owner: 'local', id };
    expect(await api.everything()).toEqual([
      mediaKey(job),
      activeKey(job),
      expect.stringMatching(/^idempotency\/local\/[0-9a-f]{64}$/),
      jobKey(job),
    ]);
  });

  test('sent five times at once makes one job', async () => {
    const answers = await Promise.all(Array.from({ length: 5 }, () => post(form(), headers)));
    const ids = new Set((await Promise.all(answers.map(viewOf))).map((view) => view.id));
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 200, 200, 200, 202]);
    expect(ids.size).toBe(1);
    expect(await api.everything()).toHaveLength(4);
  });

  test('with other options or another file is refused, and that file removed', async () => {
    await post(form(), headers);
    const before = await api.everything();
    await expectProblem(await post(form({ language: 'en' }), headers), 422, 'idempotency-mismatch');
    await expectProblem(await post(form({}, randomBytes(50)), headers), 422, 'idempotency-mismatch');
    expect(await api.everything()).toEqual(before);
  });

  test.each([
    ['the same', {}],
    ['other', { language: 'en' }],
  ])('whose first request died before its job was there is free for %s options', async (_, options) => {
    const died = await firstRequestDied();
    const answers = await Promise.all([1, 2, 3].map(() => post(form(options), headers)));
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 200, 202]);
    const ids = new Set((await Promise.all(answers.map(viewOf))).map((view) => view.id));
    expect([...ids]).toEqual([died]);
    await expectOneJob(died);
  });

  test('makes one job, with its own media, even if the first request was not dead but slow', async () => {
    const create = api.records.create.bind(api.records);
    const goOn = Promise.withResolvers<void>();
    let isFirst = true;
    api.records.create = async (key, value, options) => {
      if (key.startsWith('jobs/') && isFirst) {
        isFirst = false;
        await goOn.promise;
      }
      return create(key, value, options);
    };
    const slow = post(form(), headers);
    await waitFor('its key', async () => (await api.everything()).some((key) => /^idempotency/.test(key)));
    const media = randomBytes(1_000);
    const second = await post(form({ language: 'en' }, media), headers);
    expect(second.status).toBe(202);
    goOn.resolve();
    await expectProblem(await slow, 422, 'idempotency-mismatch');
    const { id, urls } = await viewOf(second);
    expect(Buffer.from(await (await fetch(urls.media)).arrayBuffer()).equals(media)).toBe(true);
    await expectOneJob(id);
  });

  async function expectOneJob(id: string): Promise<void> {
    const job = { owner: 'local', id };
    expect(await api.everything()).toEqual([
      expect.stringMatching(`^media/local/${id}/`),
      activeKey(job),
      expect.stringMatching(/^idempotency/),
      jobKey(job),
    ]);
  }

  /** As a crash between the record of the key and that of the job leaves it, once reconcile has been there. */
  async function firstRequestDied(): Promise<string> {
    const { id } = await viewOf(await post(form(), headers));
    const job = { owner: 'local', id };
    await api.records.delete(jobKey(job));
    await api.records.delete(activeKey(job));
    await api.blobs.delete(mediaKey(job));
    return id;
  }

  test('is free again once its job is deleted', async () => {
    const { id, urls } = await viewOf(await post(form(), headers));
    await fetch(urls.self, { method: 'DELETE' });
    const answer = await post(form({ language: 'en' }), headers);
    expect(answer.status).toBe(202);
    expect((await viewOf(answer)).id).not.toBe(id);
  });

  test('is never stored itself', async () => {
    await post(form(), headers);
    const hash = createHash('sha256').update('order 66').digest('hex');
    expect(await api.everything()).toContain(idempotencyKey('local', hash));
  });
});

describe('Prefer: wait', () => {
  test('answers 200 with the finished transcription when it is done in time', async () => {
    const answered = post(form(), { prefer: 'respond-async, wait=20' });
    const id = await idOfTheOnlyJob();
    await api.change({ owner: 'local', id }, (record) => {
      record.status = 'completed';
    });
    const answer = await answered;
    expect(answer.status).toBe(200);
    expect(answer.headers.get('preference-applied')).toBe('wait=20');
    expect(await viewOf(answer)).toMatchObject({ id, status: 'completed', progress: { percent: 100 } });
  });

  test('answers 202 when it is not', async () => {
    const answer = await post(form(), { prefer: 'wait=1' });
    expect(answer.status).toBe(202);
    expect(answer.headers.get('retry-after')).toBe('2');
  });

  test('stops looking when the client has gone', async () => {
    const stop = new AbortController();
    const answered = fetch(`${api.url}/v1/transcriptions`, {
      method: 'POST',
      body: form(),
      headers: { prefer: 'wait=60' },
      signal: stop.signal,
    });
    await idOfTheOnlyJob();
    stop.abort();
    await expect(answered).rejects.toThrow();
    await waitFor('the line in the log', () => api.log.some((line) => line.includes('"is_aborted":true')));
  });

  function idOfTheOnlyJob(): Promise<string> {
    return waitFor('the job', async () => {
      const { records } = await api.records.list({ prefix: 'jobs/', limit: 1 });
      return records[0]?.key.split('/').at(-1);
    });
  }
});

describe('memory', () => {
  test('does not grow with the upload', async () => {
    await api.stop();
    api = await startApi();
    const sizeBytes = 300 * 2 ** 20;
    const head = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n';
    const tail = '\r\n--x--\r\n';
    const upload = request(`${api.url}/v1/transcriptions`, {
      method: 'POST',
      headers: {
        'content-type': 'multipart/form-data; boundary=x',
        'content-length': sizeBytes + head.length + tail.length,
      },
    });
    const answered = once(upload, 'response');
    const piece = randomBytes(2 ** 20);
    const beforeBytes = process.memoryUsage.rss();
    let highestBytes = 0;
    upload.write(head);
    for (let sent = 0; sent < sizeBytes; sent += piece.length) {
      if (!upload.write(piece)) await once(upload, 'drain');
      highestBytes = Math.max(highestBytes, process.memoryUsage.rss());
    }
    upload.end(tail);
    const [answer] = await answered;
    expect(answer.statusCode).toBe(202);
    answer.resume();
    expect(highestBytes - beforeBytes).toBeLessThan(48 * 2 ** 20);
  }, 30_000);
});
