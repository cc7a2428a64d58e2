import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { writeJson } from '../core/blobs/blobs.ts';
import { JobRecord } from '../core/job.ts';
import { activeKey, jobKey, mediaKey, playbackKey, transcriptKey, workPrefix } from '../core/objects.ts';
import type { Transcript } from '../core/transcript.ts';
import { type StartedApi, startApi } from '../tests/support/start-api.ts';
import { waitFor } from '../tests/support/wait-for.ts';
import { parseApiKeys } from './http/api-keys.ts';
import type { viewTranscription } from './transcription-view.ts';

type TranscriptionView = ReturnType<typeof viewTranscription>;

const MEDIA = '0123456789';
const TRANSCRIPT: Transcript = {
  language: 'en',
  duration: 2,
  text: 'Hello there.',
  words_from: 'attention',
  segments: [
    {
      id: 0,
      start: 0.5,
      end: 1.75,
      text: ' Hello there.',
      words: [
        { word: 'Hello', start: 0.5, end: 1, score: 0.9 },
        { word: 'there.', start: 1, end: 1.75, score: 0.8 },
      ],
    },
  ],
  speakers: [],
};

let api: StartedApi;
let nowMs: number;
beforeEach(async () => {
  nowMs = Date.now();
  api = await startApi({
    now: () => nowMs,
    keys: parseApiKeys(
      `ann:key-of-ann,bob:sha256:${createHash('sha256').update('key-of-bob').digest('hex')}`,
    ),
  });
});
afterEach(() => api.stop());

const ANN = { authorization: 'Bearer key-of-ann' };
const BOB = { authorization: 'Bearer key-of-bob' };

function call(path: string, init: RequestInit = {}): Promise<Response> {
  const url = path.startsWith('http') ? path : `${api.url}${path}`;
  return fetch(url, { ...init, headers: { ...ANN, ...(init.headers as Record<string, string>) } });
}
const post = (path: string) => call(path, { method: 'POST' });

async function create(name = 'board meeting.mp3', headers: Record<string, string> = ANN) {
  const body = new FormData();
  body.append('file', new Blob([MEDIA], { type: 'audio/mpeg' }), name);
  const answer = await call('/v1/transcriptions', { method: 'POST', body, headers });
  expect(answer.status).toBe(202);
  return (await answer.json()) as TranscriptionView;
}

/** `fetch` asks for a new copy with every conditional request unless told otherwise. */
const UNCHANGED = { 'cache-control': 'max-age=0' };

const viewOf = async (answer: Response) => (await answer.json()) as TranscriptionView;
const refOf = ({ id }: { id: string }, owner = 'ann') => ({ owner, id });
const recordOf = async (view: { id: string }) =>
  JobRecord.parse((await api.records.read(jobKey(refOf(view))))?.value);

async function complete(view: { id: string }, change: (record: JobRecord) => void = () => {}) {
  const job = refOf(view);
  await writeJson(api.blobs, transcriptKey(job, 2), TRANSCRIPT);
  await api.blobs.write(playbackKey(job, 1), 'an mp3', { contentType: 'audio/mpeg' });
  await api.records.delete(activeKey(job));
  await api.change(job, (record) => {
    record.status = 'completed';
    record.epoch = 2;
    record.task = null;
    record.tries = { ingest: { attempt: 1, part: 1 }, transcribe: { attempt: 1, part: 1 } };
    record.objects.transcript = transcriptKey(job, 2);
    record.objects.playback = playbackKey(job, 1);
    change(record);
  });
}

async function expectProblem(answer: Response, status: number, slug: string) {
  expect(await answer.json()).toMatchObject({ type: `urn:zeroscribe:problem:${slug}`, status });
  expect(answer.status).toBe(status);
  expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
}

describe('keys', () => {
  test('are needed, and a wrong one is told apart from none', async () => {
    const none = await fetch(`${api.url}/v1/transcriptions`);
    await expectProblem(none, 401, 'unauthorized');
    expect(none.headers.get('www-authenticate')).toBe('Bearer');
    for (const authorization of ['Bearer nonsense', 'Bearer key-of-ann2']) {
      const wrong = await call('/v1/transcriptions', { headers: { authorization } });
      await expectProblem(wrong, 401, 'unauthorized');
      expect(wrong.headers.get('www-authenticate')).toBe('Bearer error="invalid_token"');
    }
    await expectProblem(await call('/v1/nothing', { headers: { authorization: '' } }), 401, 'unauthorized');
  });

  test('keep owners apart: the job of another one is not there', async () => {
    const view = await create();
    await complete(view);
    const self = `/v1/transcriptions/${view.id}`;
    for (const [method, path] of [
      ['GET', self],
      ['GET', `${self}/transcript`],
      ['GET', `${self}/media`],
      ['POST', `${self}/cancel`],
      ['POST', `${self}/retry`],
      ['DELETE', self],
    ] as const) {
      await expectProblem(await call(path, { method, headers: BOB }), 404, 'not-found');
    }
    expect(await (await call('/v1/transcriptions', { headers: BOB })).json()).toMatchObject({ data: [] });
    expect((await call(self)).status).toBe(200);
  });

  test('and the signed parts of links are not written to the log', async () => {
    const view = await create();
    await (await call(view.urls.media)).text();
    const log = await waitFor('the line in the log', () => {
      const lines = api.log.join('');
      return lines.includes(`/v1/transcriptions/${view.id}/media`) && lines;
    });
    for (const secret of ['key-of-ann', 'signature', 'Bearer']) expect(log).not.toContain(secret);
  });
});

describe('without keys', () => {
  test('a page of a stranger cannot use the service of the machine it is looked at on', async () => {
    await api.stop();
    api = await startApi();
    const ask = (headers: Record<string, string>) => fetch(`${api.url}/v1/transcriptions`, { headers });
    expect((await ask({})).status).toBe(200);
    expect((await ask({ origin: api.url })).status).toBe(200);
    await expectProblem(await ask({ origin: 'https://evil.example' }), 401, 'unauthorized');
    await expectProblem(await ask({ 'sec-fetch-site': 'cross-site' }), 401, 'unauthorized');
  });
});

describe('the list', () => {
  test('is newest first, in pages, by status', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) {
      nowMs += 1_000;
      ids.unshift((await create()).id);
    }
    await complete({ id: ids[1] as string });
    const list = async (query: string) =>
      (await (await call(`/v1/transcriptions${query}`)).json()) as {
        object: string;
        data: TranscriptionView[];
        has_more: boolean;
      };
    expect((await list('')).data.map(({ id }) => id)).toEqual(ids);
    const first = await list('?limit=2');
    expect(first).toMatchObject({ object: 'list', has_more: true, data: [{ id: ids[0] }, { id: ids[1] }] });
    const second = await list(`?limit=3&after=${ids[1]}`);
    expect(second.data.map(({ id }) => id)).toEqual(ids.slice(2));
    expect(second.has_more).toBe(false);
    expect((await list('?status=completed')).data.map(({ id }) => id)).toEqual([ids[1]]);
    expect((await list('?status=queued&limit=3')).data).toHaveLength(3);
  });

  test.each(['limit=0', 'limit=101', 'limit=x', 'limit=1&limit=2', 'status=lost', 'after=../x', 'page=2'])(
    'refuses ?%s',
    async (query) => {
      await expectProblem(await call(`/v1/transcriptions?${query}`), 422, 'invalid-option');
    },
  );
});

describe('a transcript', () => {
  test('is not there until it is done', async () => {
    const view = await create();
    await expectProblem(await call(view.urls.transcript), 409, 'not-finished');
  });

  test.each([
    ['', 'application/json', /^\{"language":"en"/, '.json'],
    ['?format=srt', 'application/x-subrip', /^1\n00:00:00,500 --> 00:00:01,750\nHello there\./, '.srt'],
    ['?format=vtt', 'text/vtt', /^WEBVTT\n\n00:00\.500 --> 00:01\.750\nHello there\./, '.vtt'],
    ['?format=txt', 'text/plain', /^Hello there\.\n/, '.txt'],
    ['?format=tsv', 'text/tab-separated-values', /^start\tend\ttext\n500\t1750\tHello there\.\n/, '.tsv'],
    ['?format=srt&highlight_words=true', 'application/x-subrip', /<u>Hello<\/u>/, '.srt'],
  ])('is rendered for %j', async (query, type, text, extension) => {
    const view = await create();
    await complete(view);
    const answer = await call(view.urls.transcript + query);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toContain(type);
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
    expect(answer.headers.get('content-disposition')).toContain(`filename="board meeting${extension}"`);
    expect(await answer.text()).toMatch(text);

    const etag = answer.headers.get('etag') as string;
    const again = await call(view.urls.transcript + query, {
      headers: { ...UNCHANGED, 'if-none-match': etag },
    });
    expect(again.status).toBe(304);
  });

  test('has no other format and no other options', async () => {
    const view = await create();
    await complete(view);
    await expectProblem(await call(`${view.urls.transcript}?format=docx`), 422, 'invalid-option');
    await expectProblem(await call(`${view.urls.transcript}?width=3`), 422, 'invalid-option');
  });
});

describe('media', () => {
  test('comes whole, in part, or as a head only', async () => {
    const { urls } = await create('böse";x=".mp3');
    const media = urls.self.concat('/media');
    const whole = await call(media);
    expect(whole.status).toBe(200);
    expect(await whole.text()).toBe(MEDIA);
    expect(whole.headers.get('accept-ranges')).toBe('bytes');
    expect(whole.headers.get('content-type')).toBe('audio/mpeg');
    expect(whole.headers.get('content-disposition')).toBe(
      `inline; filename="b_se_;x=_.mp3"; filename*=UTF-8''b%C3%B6se%22%3Bx%3D%22.mp3`,
    );

    for (const [range, content, text] of [
      ['bytes=2-4', 'bytes 2-4/10', '234'],
      ['bytes=7-', 'bytes 7-9/10', '789'],
      ['bytes=-2', 'bytes 8-9/10', '89'],
      ['bytes=5-1000', 'bytes 5-9/10', '56789'],
    ] as const) {
      const part = await call(media, { headers: { range } });
      expect(part.status).toBe(206);
      expect(part.headers.get('content-range')).toBe(content);
      expect(part.headers.get('content-length')).toBe(String(text.length));
      expect(await part.text()).toBe(text);
    }
    for (const range of ['bytes=x', 'lines=1-2', 'bytes=0-1,4-5']) {
      const ignored = await call(media, { headers: { range } });
      expect(ignored.status).toBe(200);
      expect(await ignored.text()).toBe(MEDIA);
    }
    const beyond = await call(media, { headers: { range: 'bytes=10-' } });
    expect(beyond.headers.get('content-range')).toBe('bytes */10');
    await expectProblem(beyond, 416, 'range-not-satisfiable');

    const head = await call(media, { method: 'HEAD', headers: { range: 'bytes=2-4' } });
    expect(head.status).toBe(206);
    expect(head.headers.get('content-length')).toBe('3');

    const etag = whole.headers.get('etag') as string;
    expect((await call(media, { headers: { ...UNCHANGED, 'if-none-match': etag } })).status).toBe(304);
    const same = { range: 'bytes=0-1', 'if-range': etag };
    expect((await call(media, { headers: same })).status).toBe(206);
    expect((await call(media, { headers: { ...same, 'if-range': '"other"' } })).status).toBe(200);
  });

  test('is not there as a copy until that is made', async () => {
    const view = await create();
    const copy = `${view.urls.self}/media?as=audio`;
    await expectProblem(await call(copy), 409, 'not-finished');
    await complete(view);
    const answer = await call(copy);
    expect(answer.headers.get('content-type')).toBe('audio/mpeg');
    expect(await answer.text()).toBe('an mp3');
    await expectProblem(await call(`${view.urls.self}/media?as=video`), 422, 'invalid-option');
  });

  test('that is no longer kept is not found', async () => {
    const view = await create();
    await api.blobs.delete(mediaKey(refOf(view)));
    await expectProblem(await call(view.urls.media), 404, 'not-found');
    await complete(view, (record) => {
      record.objects.media = null;
    });
    await expectProblem(await call(view.urls.media), 404, 'not-found');
  });

  test('of a type that a browser could run is only given as a download of bytes', async () => {
    const view = await create();
    await api.change(refOf(view), (record) => {
      record.source.content_type = 'application/xhtml';
    });
    const answer = await call(view.urls.media);
    expect(answer.headers.get('content-type')).toBe('application/octet-stream');
    expect(answer.headers.get('content-disposition')).toMatch(/^attachment;/);
  });

  test('needs no key with a signed link, for a while and for this job only', async () => {
    const view = await create();
    await complete(view);
    const { media } = view.urls;
    expect(await (await fetch(media)).text()).toBe(MEDIA);
    expect(await (await fetch(`${media}&as=audio`)).text()).toBe('an mp3');
    expect((await fetch(media, { headers: { range: 'bytes=0-0' } })).status).toBe(206);

    const other = await create();
    const link = new URL(media);
    await expectProblem(await fetch(`${other.urls.self}/media${link.search}`), 401, 'unauthorized');
    for (const [name, value] of [
      ['owner', 'bob'],
      ['expires', '99999999999'],
      ['signature', 'AAAA'],
    ] as const) {
      const forged = new URL(media);
      forged.searchParams.set(name, value);
      await expectProblem(await fetch(forged), 401, 'unauthorized');
    }
    expect((await fetch(`${view.urls.transcript}${link.search}`)).status).toBe(401);
    nowMs += 2 * 3_600_000;
    await expectProblem(await fetch(media), 401, 'unauthorized');
  });
});

describe('cancel', () => {
  test('ends at once what nobody works on, and again does nothing', async () => {
    const view = await create();
    const { task } = await recordOf(view);
    for (let i = 0; i < 2; i++) {
      const answer = await post(view.urls.cancel);
      expect(answer.status).toBe(202);
      expect(await viewOf(answer)).toMatchObject({ status: 'canceled', completed_at: expect.any(String) });
    }
    expect(await api.queue.has(task as NonNullable<typeof task>)).toBe(false);
    expect(await api.everything()).toEqual([mediaKey(refOf(view)), jobKey(refOf(view))]);
  });

  test('asks the worker that is at it', async () => {
    const view = await create();
    await api.change(refOf(view), (record) => {
      record.status = 'processing';
      record.lease = { holder: 'w', epoch: 1 };
    });
    for (let i = 0; i < 2; i++) {
      const answer = await post(view.urls.cancel);
      expect(answer.status).toBe(202);
      expect((await viewOf(answer)).status).toBe('processing');
    }
    expect((await recordOf(view)).cancel_requested).toBe(true);
  });

  test('leaves what has ended as it is', async () => {
    const view = await create();
    await complete(view);
    const answer = await post(view.urls.cancel);
    expect(answer.status).toBe(202);
    expect((await viewOf(answer)).status).toBe('completed');
  });
});

describe('retry', () => {
  test('takes a canceled job up again, under a task name of its own', async () => {
    const view = await create();
    const before = await recordOf(view);
    await post(view.urls.cancel);
    const answer = await post(`${view.urls.self}/retry`);
    expect(answer.status).toBe(202);
    expect(await viewOf(answer)).toMatchObject({ status: 'queued', completed_at: null });
    const after = await recordOf(view);
    expect(after.task?.queue).toBe('cpu');
    expect(after.task?.name).not.toBe(before.task?.name);
    expect(await api.queue.has(after.task as NonNullable<typeof after.task>)).toBe(true);
    expect(await api.everything()).toContain(activeKey(refOf(view)));
  });

  test('of a failed job goes on after the audio that is there', async () => {
    const view = await create();
    await complete(view, (record) => {
      record.status = 'failed';
      record.problem = { type: 'urn:zeroscribe:problem:internal', title: 't', status: 500, detail: 'd' };
      record.objects.transcript = null;
      record.objects.audio = ['media/ann/x/1.flac'];
      record.tries.transcribe.attempt = 5;
      record.checkpoints.transcribe = [{ epoch: 2, parts: 3 }];
      record.stages = [
        { name: 'decode', status: 'done', seconds: 1, fraction: 1 },
        { name: 'transcribe', status: 'failed', seconds: 9, fraction: 0.5 },
      ];
    });
    expect(await viewOf(await post(`${view.urls.self}/retry`))).toMatchObject({
      status: 'queued',
      problem: null,
      progress: { stages: [{ name: 'decode' }] },
    });
    expect(await recordOf(view)).toMatchObject({
      task: { queue: 'standalone', name: expect.stringContaining('-transcribe-a7-p1') },
      tries: { transcribe: { attempt: 0 } },
      checkpoints: { transcribe: [{ epoch: 2, parts: 3 }] },
    });
  });

  test('of a job that lacks speakers keeps the rest, and the old transcript meanwhile', async () => {
    const view = await create();
    await complete(view, (record) => {
      record.objects.audio = ['media/ann/x/1.flac'];
      record.warnings = [{ code: 'diarization-failed', message: 'm' }];
      record.checkpoints = {
        fetch: null,
        speech: 's',
        transcribe: [{ epoch: 2, parts: 3 }],
        align: [{ epoch: 2, parts: 1 }],
        diarize: null,
      };
    });
    const answer = await viewOf(await post(`${view.urls.self}/retry`));
    expect(answer).toMatchObject({ status: 'queued', warnings: [] });
    expect((await recordOf(view)).checkpoints.align).toEqual([{ epoch: 2, parts: 1 }]);
    expect((await call(view.urls.transcript)).status).toBe(200);
    await expectProblem(await post(`${view.urls.self}/retry`), 409, 'not-retryable');
  });

  test('is refused where there is nothing to do', async () => {
    const view = await create();
    await expectProblem(await post(`${view.urls.self}/retry`), 409, 'not-retryable');
    await complete(view);
    await expectProblem(await post(`${view.urls.self}/retry`), 409, 'not-retryable');
  });
});

describe('delete', () => {
  test('leaves nothing of a job', async () => {
    const view = await create();
    await complete(view);
    await writeJson(api.blobs, `${workPrefix(refOf(view))}1/diarize.json`, {});
    const answer = await call(view.urls.self, { method: 'DELETE' });
    expect(answer.status).toBe(204);
    expect(await api.everything()).toEqual([]);
    await expectProblem(await call(view.urls.self), 404, 'not-found');
    await expectProblem(await call(view.urls.self, { method: 'DELETE' }), 404, 'not-found');
  });

  test('leaves the marker where a worker may still write, for reconcile to look again', async () => {
    const view = await create();
    await api.change(refOf(view), (record) => {
      record.status = 'processing';
      record.lease = { holder: 'w', epoch: 1 };
    });
    expect((await call(view.urls.self, { method: 'DELETE' })).status).toBe(204);
    expect(await api.everything()).toEqual([activeKey(refOf(view))]);
  });
});

describe('everything else', () => {
  test.each(['/', '/v1/nothing', '/v1/transcriptions/tr_x', '/v1/transcriptions/..%2fx', '/v1/uploads'])(
    '%s is not found',
    async (path) => {
      await expectProblem(await call(path), 404, 'not-found');
    },
  );

  test('a wrong method and a malformed address are problems too', async () => {
    await expectProblem(await call('/v1/transcriptions', { method: 'PUT' }), 404, 'not-found');
    await expectProblem(await call('/v1/transcriptions/%ff'), 400, 'invalid-request');
  });

  test('what nobody foresaw shows nothing of itself, and is logged', async () => {
    api.records.read = async () => {
      throw new Error('secret path /srv/data');
    };
    const answer = await call(`/v1/transcriptions/tr_${'0'.repeat(19)}`);
    const text = await answer.clone().text();
    await expectProblem(answer, 500, 'internal');
    expect(text).not.toContain('secret');
    expect(api.log.join('')).toContain('secret path /srv/data');
    expect(answer.headers.get('x-powered-by')).toBeNull();
  });

  test('health needs no key', async () => {
    expect((await fetch(`${api.url}/health/live`)).status).toBe(200);
    expect((await fetch(`${api.url}/health/ready`)).status).toBe(200);
    await api.stop();
    api = await startApi({ readiness: () => ({ isReady: false, detail: 'The model is loading.' }) });
    const answer = await fetch(`${api.url}/health/ready`);
    expect(answer.status).toBe(503);
    expect(await answer.json()).toEqual({ status: 'not-ready', detail: 'The model is loading.' });
  });
});
