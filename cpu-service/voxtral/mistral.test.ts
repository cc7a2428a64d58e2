import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { openAsBlob } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { readInstallation } from '../../core/installation.ts';
import { FakeMistral } from '../../tests/support/fake-mistral/fake-mistral.ts';
import { wav } from '../../tests/support/media.ts';
import { openMistral, type Question, type Reply } from './mistral.ts';

// With it the client prints requests, headers and all. It reads that once.
process.env.MISTRAL_DEBUG = '1';
const printed = (['log', 'debug', 'group'] as const).map((name) =>
  jest.spyOn(console, name).mockImplementation(() => {}),
);

const API_KEY = 'test-key';
const { ffmpeg: ffmpegPath } = readInstallation();
const never = new AbortController().signal;
const QUESTION: Question = {
  model: 'voxtral-mini-2602',
  audio: { file: new File([wav({ seconds: 1 })], 'audio.wav') },
  granularity: 'word',
  diarize: false,
  contextBias: [],
};

let server: Server | undefined;
let api: FakeMistral | undefined;
afterEach(async () => {
  await api?.close();
  api = undefined;
  server?.closeAllConnections();
  server?.close();
  server = undefined;
});

async function answering(listener: RequestListener): Promise<string> {
  server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const ask = (endpoint: string, changes: Partial<Question> = {}, signal = never): Promise<Reply> =>
  openMistral({ apiKey: API_KEY, endpoint }).ask({ ...QUESTION, ...changes }, signal);

describe('the fake, through the official client', () => {
  const start = async () => {
    const hear = () => ({ text: 'Hi', segments: [{ text: ' Hi', start: 0, end: 0.5, score: 0.9 }] });
    api = new FakeMistral({ hear, ffmpegPath });
    return api.listen();
  };

  test('answers with words, their times, and what it takes money for', async () => {
    expect(await ask(await start())).toEqual({
      kind: 'answer',
      answer: {
        text: 'Hi',
        language: null,
        segments: [{ text: ' Hi', start: 0, end: 0.5, score: 0.9, speaker: null }],
        paidSeconds: 1,
      },
    });
  });

  test('fetches a link', async () => {
    const link = await answering((_req, res) => res.end(wav({ seconds: 2 })));
    expect(await ask(await start(), { audio: { fileUrl: link } })).toMatchObject({
      answer: { paidSeconds: 2 },
    });
  });

  const TERMS = Array.from({ length: 101 }, (_, n) => `term${n}`);
  test.each<[number, string, Partial<Question>]>([
    [400, 'Invalid model: voxtral-maxi', { model: 'voxtral-maxi' }],
    [400, 'voxtral-mini-transcribe-3 has no timestamps of a word', { model: 'voxtral-mini-transcribe-3' }],
    [400, 'Diarization requires', { diarize: true }],
    [422, 'context_bias: List too long', { contextBias: TERMS }],
    [422, 'context_bias: Terms hold no spaces', { contextBias: ['two words'] }],
    [400, 'Failed to fetch the file from [link]', { audio: { fileUrl: 'http://127.0.0.1:1/secret' } }],
    [
      422,
      'file_url: URL should have at most',
      { audio: { fileUrl: `http://x.example/${'a'.repeat(2_100)}` } },
    ],
  ])('refuses with %p: %s', async (status, words, changes) => {
    expect(await ask(await start(), changes)).toMatchObject({
      kind: 'refusal',
      status,
      words: expect.stringContaining(words),
      isOfModel: words.startsWith('Invalid model'),
    });
    expect(api?.paidSeconds).toBe(0);
  });

  test('refuses a key that it does not know', async () => {
    const client = openMistral({ apiKey: 'another', endpoint: await start() });
    expect(await client.ask(QUESTION, never)).toMatchObject({ kind: 'refusal', status: 401 });
  });

  test('has the trap: told a language and asked for times, it succeeds with an empty text', async () => {
    const form = new FormData();
    form.append('model', QUESTION.model);
    form.append('file', (QUESTION.audio as { file: Blob }).file);
    form.append('language', 'en');
    form.append('timestamp_granularities', 'segment');
    const headers = { Authorization: `Bearer ${API_KEY}` };
    const response = await fetch(`${await start()}/v1/audio/transcriptions`, {
      method: 'POST',
      headers,
      body: form,
    });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ text: '', usage: { prompt_audio_seconds: 1 } });
  });
});

describe('an answer that does not come', () => {
  const readAll: RequestListener = (req, res) => void req.resume().on('end', () => res.destroy());
  test.each<[string, boolean, RequestListener]>([
    ['before the request was there', false, (_req, res) => void res.destroy()],
    ['after the request was there', true, readAll],
    [
      'whole',
      true,
      (_req, res) => void res.setHeader('Content-Type', 'application/json').end('{"model":"m","te'),
    ],
    [
      'in the form that the schema has',
      true,
      (_req, res) => void res.setHeader('Content-Type', 'application/json').end('{"text":"Hi"}'),
    ],
    ['as JSON', true, (_req, res) => void res.end('<html>')],
  ])('%s is lost: it was sent: %p', async (_, wasSent, listener) => {
    // More than the buffers of a connection hold.
    const file = new File([randomBytes(20_000_000)], 'audio.flac');
    const slow: RequestListener = (req, res) =>
      wasSent && listener !== readAll
        ? void req.resume().on('end', () => listener(req, res))
        : listener(req, res);
    const reply = await ask(await answering(slow), { audio: { file } });
    expect(reply).toMatchObject({ kind: 'lost', wasSent });
  });

  test('is told by the names of what happened, and nothing of the request', async () => {
    expect(await ask('http://127.0.0.1:1')).toEqual({
      kind: 'lost',
      wasSent: false,
      because: expect.stringMatching(/ECONNREFUSED/),
    });
  });

  test('in time is given up', async () => {
    const url = await answering((req) => void req.resume());
    expect(await ask(url, {}, AbortSignal.timeout(50))).toMatchObject({ kind: 'lost' });
  });
});

test.each<[string, number | null]>([
  ['7', 7_000],
  ['0', 0],
  ['soon', null],
])('Retry-After: %s', async (value, retryAfterMs) => {
  const url = await answering((req, res) => {
    req.resume().on('end', () => res.writeHead(429, { 'Retry-After': value }).end('{"message":"Too many"}'));
  });
  expect(await ask(url)).toMatchObject({ kind: 'refusal', status: 429, words: 'Too many', retryAfterMs });
});

test('a file is sent as it lies on the disk, with its length told before', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'form-'));
  try {
    const path = join(folder, 'audio');
    const bytes = randomBytes(3_000_000);
    await writeFile(path, bytes);
    const requests: { body: Buffer; length: string | undefined }[] = [];
    const url = await answering(async (req, res) => {
      requests.push({ body: await buffer(req), length: req.headers['content-length'] });
      res.writeHead(503).end();
    });
    await ask(url, { audio: { file: new File([await openAsBlob(path)], 'audio.flac') } });
    expect(requests).toHaveLength(1);
    expect(requests[0]?.length).toBe(String(requests[0]?.body.length));
    expect(requests[0]?.body.includes(bytes)).toBe(true);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('a silent request ends when it is to, also after garbage was collected', async () => {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const asked = Promise.withResolvers<void>();
  const url = await answering(() => asked.resolve());
  const stop = new AbortController();
  const reply = ask(url, {}, AbortSignal.any([stop.signal, new AbortController().signal]));
  await asked.promise;
  for (let n = 0; n < 2; n++) {
    collectGarbage();
    await new Promise((resolve) => setImmediate(resolve));
  }
  stop.abort(new Error('stop'));
  expect(await reply).toMatchObject({ kind: 'lost' });
});

test('the client has printed nothing of all this, though it was asked to', () => {
  expect(printed.flatMap(({ mock }) => mock.calls)).toEqual([]);
  jest.restoreAllMocks();
});
