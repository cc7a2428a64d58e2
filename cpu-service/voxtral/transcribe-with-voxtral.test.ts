import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { readJson, writeJson } from '../../core/blobs/blobs.ts';
import type { DiskBlobs } from '../../core/blobs/disk-blobs.ts';
import type { JobRecord } from '../../core/job.ts';
import { mulberry32 } from '../../core/mulberry32.ts';
import { checkpointPartKey, type JobRef } from '../../core/objects.ts';
import { type Problem, problemSlug } from '../../core/problem.ts';
import { cancelJob } from '../../core/tasks/cancel-job.ts';
import { dying } from '../../tests/support/dying.ts';
import type { Hear } from '../../tests/support/fake-mistral/audio-request.ts';
import {
  FakeMistral,
  type FakeMistralOptions,
  type Fault,
  type Served,
} from '../../tests/support/fake-mistral/fake-mistral.ts';
import { hearNumbers, spokenNumbers } from '../../tests/support/fake-mistral/spoken-numbers.ts';
import { wav } from '../../tests/support/media.ts';
import { makeVoxtralWorker, QUICK, type VoxtralWorker } from '../../tests/support/voxtral-worker.ts';
import { waitFor } from '../../tests/support/wait-for.ts';
import type { WorkerStore } from '../../tests/support/worker-store.ts';
import type { AnsweredPiece } from './answered-piece.ts';
import type { AudioCarrier } from './audio-carrier.ts';
import { sampleCount } from './flac-header.ts';

let worker: VoxtralWorker;
let api: FakeMistral;

beforeEach(async () => {
  worker = await makeVoxtralWorker();
});
afterEach(async () => {
  await api.close();
  await worker.remove();
});

async function startApi(options: Partial<FakeMistralOptions> = {}): Promise<string> {
  api = new FakeMistral({ hear: hearNumbers, ffmpegPath: worker.ffmpegPath, ...options });
  return api.listen();
}

/** Seven pieces, and four. */
const LONG = spokenNumbers(60);
const SHORT = spokenNumbers(35);
const numbersUpTo = (count: number) => Array.from({ length: count }, (_, n) => `n${n}`);

describe('a recording', () => {
  test('that fits is sent as it is stored, and its words keep their times', async () => {
    const tools = worker.tools(await startApi());
    const job = await worker.submit({}, spokenNumbers(5));
    expect(await worker.attempt(job, tools)).toEqual({ kind: 'done' });
    const record = await worker.store.record(job);
    expect(record).toMatchObject({
      status: 'completed',
      engine: 'voxtral',
      model: 'voxtral-mini-2602',
      language: null,
      warnings: [],
      usage: [
        { backend: 'cpu-service' },
        { backend: 'voxtral', api_audio_seconds: 5, unconfirmed_audio_seconds: 0 },
      ],
    });
    const transcript = await worker.transcript(job);
    expect(transcript).toMatchObject({ language: 'und', duration: 5, words_from: 'model', speakers: [] });
    expect(transcript.text).toBe('n0 n1 n2 n3 n4');
    expect(transcript.segments.flatMap(({ words }) => words)).toEqual(
      numbersUpTo(5).map((word, n) => ({ word, start: n + 0.2, end: n + 0.8 })),
    );
    expect(api.served.map(({ request }) => request)).toMatchObject([
      { by: 'file', granularities: ['word'], diarize: false, seconds: 5 },
    ]);
  });

  test('that fits and may be linked says how long it is', async () => {
    const tools = worker.tools(await startApi());
    const counts: number[] = [];
    const carrier: AudioCarrier = {
      mayLink: true,
      async carry(key, samples, signal) {
        counts.push(sampleCount(await buffer(await worker.store.blobs.read(key))));
        return tools.carrier.carry(key, samples, signal);
      },
    };
    const job = await worker.submit({}, spokenNumbers(5));
    expect(await worker.attempt(job, { ...tools, carrier })).toEqual({ kind: 'done' });
    expect(counts).toEqual([5 * 16_000]);
    expect((await worker.transcript(job)).text).toBe('n0 n1 n2 n3 n4');
  });

  test('that is longer is cut where it is quiet, and no word is lost, doubled or moved', async () => {
    const tools = worker.tools(await startApi());
    const job = await worker.submit({}, LONG);
    expect(await worker.attempt(job, tools)).toEqual({ kind: 'done' });
    expect(api.served).toHaveLength(7);
    for (const { request } of api.served) expect(request.seconds).toBeLessThanOrEqual(10);
    const { segments, text, duration } = await worker.transcript(job);
    expect(duration).toBe(60);
    expect(text.split(' ')).toEqual(numbersUpTo(60));
    expect(segments.flatMap(({ words }) => words)).toEqual(
      numbersUpTo(60).map((word, n) => ({ word, start: n + 0.2, end: n + 0.8 })),
    );
    const { usage } = await worker.store.record(job);
    expect(usage.find(({ backend }) => backend === 'voxtral')?.api_audio_seconds).toBe(api.paidSeconds);
    expect(api.mostAtOnce).toBeLessThanOrEqual(4);
  });
});

test('a key that is not accepted is told to the operator, and nothing of the job is lost', async () => {
  const tools = worker.tools(await startApi({ apiKey: 'another' }));
  const job = await worker.submit({}, spokenNumbers(5));
  const outcome = await worker.attempt(job, tools);
  expect(outcome).toMatchObject({ kind: 'retry', error: { slug: 'voxtral-not-authorized' } });
  for (let n = 2; n <= 5; n++) await worker.attempt(job, tools);
  const { problem, objects, status } = await worker.store.record(job);
  expect(status).toBe('failed');
  expect(problemSlug(problem as Problem)).toBe('voxtral-not-authorized');
  expect(problem?.detail).toContain('MISTRAL_API_KEY');
  expect(objects.audio).not.toBeNull();
});

describe('options', () => {
  test('speakers are told apart in pieces as long as the model takes, and a longer recording says what that means', async () => {
    const tools = worker.tools(await startApi(), { pieceSeconds: { withSpeakers: 20, without: 5 } });
    const fields = { diarize: true, word_timestamps: false };
    const [one, several] = [
      await worker.submit(fields, spokenNumbers(8)),
      await worker.submit(fields, spokenNumbers(30)),
    ];
    await worker.attempt(one, tools);
    expect((await worker.transcript(one)).speakers).toEqual(['SPEAKER_00', 'SPEAKER_01']);
    expect((await worker.store.record(one)).warnings).toEqual([]);
    await worker.attempt(several, tools);
    expect(api.served.map(({ request }) => [request.granularities, request.diarize])).toEqual([
      [['segment'], true],
      [['segment'], true],
      [['segment'], true],
    ]);
    const { segments, speakers, words_from } = await worker.transcript(several);
    expect(segments.map(({ text }) => text)).toEqual(numbersUpTo(30));
    expect([speakers.length, words_from]).toEqual([4, null]);
    expect((await worker.store.record(several)).warnings).toMatchObject([{ code: 'speakers-not-matched' }]);
  });

  test('each channel is cut by itself, and is a speaker', async () => {
    const tools = worker.tools(await startApi());
    const job = await worker.submit({ channels: 'separate' }, spokenNumbers(12, { channels: 2 }));
    await worker.attempt(job, tools);
    expect(api.served).toHaveLength(4);
    const { segments, speakers, duration } = await worker.transcript(job);
    expect(duration).toBe(12);
    expect(speakers).toEqual(['SPEAKER_00', 'SPEAKER_01']);
    const words = segments.flatMap(({ words = [] }) => words);
    expect(words.map(({ word }) => word).toSorted()).toEqual(numbersUpTo(24).toSorted());
    for (const { word, speaker, start } of words) {
      const number = Number(word.slice(1));
      expect([speaker, start]).toEqual([`SPEAKER_0${number % 2}`, Math.floor(number / 2) + 0.2]);
    }
    expect((await worker.store.record(job)).warnings).toEqual([]);
  });

  test('hotwords go to the API as it takes them', async () => {
    const tools = worker.tools(await startApi());
    const job = await worker.submit(
      { hotwords: 'Zeroscribe, Rotterdam  Centraal,\nZeroscribe' },
      spokenNumbers(2),
    );
    await worker.attempt(job, tools);
    expect(api.served[0]?.request.contextBias).toEqual(['Zeroscribe', 'Rotterdam_Centraal']);
  });
});

describe('an answer without words', () => {
  test('to what may be speech is asked for once more', async () => {
    const tools = worker.tools(await startApi({ faultOf: (n) => (n === 0 ? 'empty-text' : undefined) }));
    const job = await worker.submit({}, spokenNumbers(4));
    await worker.attempt(job, tools);
    expect((await worker.transcript(job)).text).toBe('n0 n1 n2 n3');
    const record = await worker.store.record(job);
    expect(record.warnings).toEqual([]);
    expect(usageOf(record)).toMatchObject({ api_audio_seconds: 8 });
  });

  test('twice is believed, and said where', async () => {
    const tools = worker.tools(await startApi({ hear: () => ({ text: ' ', segments: [] }) }));
    const job = await worker.submit({}, spokenNumbers(4));
    expect(await worker.attempt(job, tools)).toEqual({ kind: 'done' });
    expect(api.requests).toBe(2);
    expect((await worker.store.record(job)).warnings).toEqual([
      {
        code: 'words-missing',
        message: 'Mistral found no words, though it is not silent there: 0:00:00 to 0:00:04.',
      },
    ]);
  });

  test('is kept when the worker is to stop then, and the next one asks only once more', async () => {
    const stop = new AbortController();
    let heard = 0;
    const hear: Hear = (request) => {
      heard += 1;
      if (heard > 1) return hearNumbers(request);
      stop.abort();
      return { text: '', segments: [] };
    };
    const tools = worker.tools(await startApi({ hear }));
    const job = await worker.submit({}, spokenNumbers(4));
    const outcome = await worker.attempt(job, tools, { signal: stop.signal });
    expect(outcome).toMatchObject({ kind: 'retry', error: { slug: 'interrupted' } });
    expect(usageOf(await worker.store.record(job))).toMatchObject({ api_audio_seconds: 4 });
    expect(await worker.attempt(job, tools)).toEqual({ kind: 'done' });
    expect((await worker.transcript(job)).text).toBe('n0 n1 n2 n3');
    const record = await worker.store.record(job);
    expect(record.warnings).toEqual([]);
    expect(usageOf(record)).toMatchObject({ api_audio_seconds: 8 });
  });

  test('is asked for once more and no third time, though that is refused at first', async () => {
    const faultOf = (n: number): Fault => (n === 1 ? { status: 429 } : 'empty-text');
    const patience = { ...QUICK, totalWaitMs: 0 };
    const tools = worker.tools(await startApi({ faultOf }), { patience });
    const job = await worker.submit({}, spokenNumbers(4));
    expect(await worker.attempt(job, tools)).toMatchObject({ kind: 'retry' });
    expect(await worker.attempt(job, tools)).toEqual({ kind: 'done' });
    expect(api.requests).toBe(3);
    const record = await worker.store.record(job);
    expect(usageOf(record)).toMatchObject({ api_audio_seconds: 8 });
    expect(record.warnings).toMatchObject([{ code: 'words-missing' }]);
  });

  test('is noted as paid, though nobody can look into the audio', async () => {
    const tools = worker.tools(await startApi({ hear: () => ({ text: '', segments: [] }) }));
    const job = await worker.submit({}, spokenNumbers(4));
    await worker.attempt(job, { ...tools, ffmpegPath: '/nonexistent' });
    expect(usageOf(await worker.store.record(job))).toMatchObject({ api_audio_seconds: 4 });
  });

  test('to silence is what it is', async () => {
    const tools = worker.tools(await startApi());
    const job = await worker.submit({}, wav({ seconds: 4 }));
    expect(await worker.attempt(job, tools)).toEqual({ kind: 'done' });
    expect(api.requests).toBe(1);
    expect((await worker.store.record(job)).warnings).toMatchObject([{ code: 'no-speech' }]);
    expect(await worker.transcript(job)).toMatchObject({
      text: '',
      segments: [],
      duration: 4,
      words_from: null,
    });
  });
});

/** A job of four pieces that are cut already; the store keeps them, so that it can be done again and again. */
async function planned(): Promise<{ job: JobRef; store: WorkerStore; again(): Promise<void> }> {
  const store = { ...worker.store, blobs: keepingAll(worker.store.blobs), isHolderGone: () => true };
  const job = await worker.submit({}, SHORT);
  const unreachable = worker.tools('http://127.0.0.1:1', { patience: { ...QUICK, totalWaitMs: 0 } });
  expect((await worker.attempt(job, unreachable, { context: store })).kind).toBe('retry');
  const before = await worker.store.record(job);
  before.tries.transcribe = { attempt: 0, part: 0 };
  const again = () =>
    worker.store.change(job, (record) => void Object.assign(record, structuredClone(before)));
  await again();
  return { job, store, again };
}

function keepingAll(blobs: DiskBlobs): DiskBlobs {
  return new Proxy(blobs, {
    get(target, name) {
      if (name === 'delete' || name === 'deletePrefix') return async () => {};
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === 'function' ? member.bind(target) : member;
    },
  });
}

/** The pieces of which the record names an answer. */
async function storedPieces(job: JobRef): Promise<number[]> {
  const { checkpoints } = await worker.store.record(job);
  const parts: AnsweredPiece[] = [];
  for (const { epoch, parts: count } of checkpoints.transcribe) {
    for (let part = 0; part < count; part++) {
      const stored = await readJson(worker.store.blobs, checkpointPartKey(job, epoch, 'transcribe', part));
      parts.push(...(stored as AnsweredPiece[]));
    }
  }
  return parts.map(({ index }) => index).toSorted();
}

const usageOf = ({ usage }: JobRecord) => usage.find(({ backend }) => backend === 'voxtral');
/** Which piece a request was about: its first word says it. */
const firstWord = ({ heard }: Served) => heard.segments[0]?.text;

test('wherever the worker dies, the next one pays only for what the record has no answer of', async () => {
  const tools = worker.tools(await startApi());
  const { job, store, again } = await planned();
  const words = [
    'n0',
    ...(await worker.plan(job)).pieces.slice(1).map(({ from }) => `n${Math.ceil(from / 16_000 - 0.2)}`),
  ];
  expect(words).toHaveLength(4);
  let deaths = 0;
  const storedAtDeath = new Set<number>();
  for (let at = 1; ; at++) {
    const mortal = dying(store, at, at % 2 === 0 ? 'after' : 'before');
    // The process is gone, so is what it hears of itself.
    await worker.attempt(job, tools, { context: mortal }).catch(() => {});
    await waitFor('what it has asked', () => api.isIdle);
    if (!mortal.hasDied()) break;
    deaths += 1;
    if ((await worker.store.record(job)).status === 'completed') {
      await again();
      continue;
    }
    const stored = await storedPieces(job);
    storedAtDeath.add(stored.length);
    api.served.length = 0;
    expect((await worker.attempt(job, tools, { context: store })).kind).toBe('done');
    expect(api.served.map(firstWord).toSorted()).toEqual(
      words.filter((_, index) => !stored.includes(index)).toSorted(),
    );
    expect((await worker.transcript(job)).text.split(' ')).toEqual(numbersUpTo(35));
    await again();
  }
  expect(deaths).toBeGreaterThan(15);
  expect([...storedAtDeath].toSorted()).toEqual([0, 1, 2, 3, 4]);
}, 60_000);

describe('a worker that is asked to stop', () => {
  let hearing: number;
  let gate: PromiseWithResolvers<void>;
  beforeEach(() => {
    hearing = 0;
    gate = Promise.withResolvers();
  });
  const atTheGate: Hear = async (request) => {
    hearing += 1;
    await gate.promise;
    return hearNumbers(request);
  };

  test('waits for what it has asked, keeps it, and asks nothing more; the next pays for the rest only', async () => {
    const tools = worker.tools(await startApi({ hear: atTheGate }));
    const job = await worker.submit({}, LONG);
    const stop = new AbortController();
    const outcome = worker.attempt(job, tools, { signal: stop.signal });
    await waitFor('four requests to be heard', () => hearing === 4);
    stop.abort();
    gate.resolve();
    expect(await outcome).toMatchObject({ kind: 'retry', error: { slug: 'interrupted' } });
    expect(await storedPieces(job)).toEqual([0, 1, 2, 3]);
    const record = await worker.store.record(job);
    expect(record).toMatchObject({ lease: null, tries: { transcribe: { attempt: 0 } } });
    expect(usageOf(record)).toMatchObject({
      api_audio_seconds: api.paidSeconds,
      unconfirmed_audio_seconds: 0,
    });

    expect(await worker.attempt(job, tools)).toEqual({ kind: 'done' });
    expect(api.requests).toBe(7);
    expect((await worker.transcript(job)).text.split(' ')).toEqual(numbersUpTo(60));
  });

  test('because the job is canceled waits for nothing, and says what may have been paid for', async () => {
    const tools = worker.tools(await startApi({ hear: atTheGate }));
    const job = await worker.submit({}, spokenNumbers(8));
    const outcome = worker.attempt(job, tools);
    await waitFor('a request to be heard', () => hearing === 1);
    await cancelJob(worker.store, job);
    expect(await outcome).toEqual({ kind: 'done' });
    gate.resolve();
    const record = await worker.store.record(job);
    expect(record.status).toBe('canceled');
    expect(usageOf(record)).toMatchObject({ api_audio_seconds: 0, unconfirmed_audio_seconds: 8 });
  });
});

test('an attempt that Mistral has answered some of counts as none', async () => {
  const faultOf = (n: number): Fault | undefined => (n === 0 ? undefined : { status: 429 });
  const patience = { ...QUICK, totalWaitMs: 0 };
  const tools = worker.tools(await startApi({ faultOf }), { patience });
  const job = await worker.submit({}, spokenNumbers(15));
  expect(await worker.attempt(job, tools)).toMatchObject({ error: { slug: 'voxtral-unavailable' } });
  expect((await worker.store.record(job)).tries.transcribe.attempt).toBe(0);
  await worker.attempt(job, tools);
  expect((await worker.store.record(job)).tries.transcribe.attempt).toBe(1);
});

test('an address that Mistral does not have is told to the operator, and the job keeps its audio', async () => {
  const tools = worker.tools(`${await startApi()}/proxy`);
  const job = await worker.submit({}, spokenNumbers(2));
  const outcome = await worker.attempt(job, tools);
  expect(outcome).toMatchObject({ kind: 'retry', error: { slug: 'voxtral-misconfigured' } });
});

test('pieces that are longer than the model takes are cut anew', async () => {
  const { job } = await planned();
  const plan = await worker.plan(job);
  const [first] = plan.pieces;
  if (first === undefined) throw new Error('there is no plan');
  const { checkpoints } = await worker.store.record(job);
  const long = { pieces: [{ ...first, from: 0, to: 4 * 3_600 * 16_000 }] };
  await writeJson(worker.store.blobs, checkpoints.speech as string, long);
  expect(await worker.attempt(job, worker.tools(await startApi()))).toEqual({ kind: 'done' });
  expect((await worker.transcript(job)).text.split(' ')).toEqual(numbersUpTo(35));
  expect(api.served).toHaveLength(plan.pieces.length);
});

test('a job that waits while its backend gets a model that could not do it stays with its own', async () => {
  const tools = worker.tools(await startApi());
  const job = await worker.submit({}, spokenNumbers(2));
  const backends = worker.store.backends.map((backend) =>
    backend.kind === 'voxtral' ? { ...backend, model: 'voxtral-mini-transcribe-3' as const } : backend,
  );
  expect(await worker.attempt(job, tools, { context: { backends } })).toEqual({ kind: 'done' });
  expect((await worker.store.record(job)).model).toBe('voxtral-mini-2602');
});

test('a task that comes when the job has gone to another backend leaves it alone', async () => {
  const tools = worker.tools(await startApi());
  const job = await worker.submit({}, spokenNumbers(2));
  await worker.store.change(job, (record) => {
    record.backend = 'gpu';
  });
  expect(await worker.attempt(job, tools)).toEqual({ kind: 'done' });
  expect(await worker.store.record(job)).toMatchObject({
    lease: null,
    tries: { transcribe: { attempt: 0 } },
  });
  expect(api.requests).toBe(0);
});

test.each([1, 2])(
  'whatever goes wrong by chance (seed %p), nothing is lost and no answer is paid for twice',
  async (seed) => {
    const random = mulberry32(seed);
    const faults: Fault[] = [
      { status: 429, retryAfter: 0 },
      { status: 429 },
      { status: 500 },
      { status: 503 },
      { status: 504 },
      'dropped-before',
      'dropped-after',
      'half-an-answer',
      'twice-the-answer',
      { delayMs: 5 },
    ];
    const tools = worker.tools(
      await startApi({
        faultOf: () => (random() < 0.6 ? faults[Math.floor(random() * faults.length)] : undefined),
      }),
      { patience: { ...QUICK, lostAnswers: 3 } },
    );
    const job = await worker.submit({}, LONG);
    const jobIsDone = async () => (await worker.store.record(job)).status === 'completed';
    while (!(await jobIsDone())) {
      const { kind } = await worker.attempt(job, tools);
      expect(['done', 'retry']).toContain(kind);
      await worker.store.change(job, (record) => {
        // As many as it takes; how many there are is decided elsewhere.
        if (record.status === 'processing') record.tries.transcribe.attempt = 0;
      });
    }
    expect((await worker.transcript(job)).text.split(' ')).toEqual(numbersUpTo(60));
    const answered = api.served.filter(({ isAnswered }) => isAnswered);
    expect(answered.map(firstWord)).toHaveLength(new Set(answered.map(firstWord)).size);
    const usage = usageOf(await worker.store.record(job));
    const paidFor = (served: Served[]) => served.reduce((sum, { paidSeconds }) => sum + paidSeconds, 0);
    expect(usage?.api_audio_seconds).toBe(paidFor(answered));
    const unanswered = api.served.filter(({ isAnswered }) => !isAnswered);
    // The API counts whole seconds.
    expect(usage?.unconfirmed_audio_seconds).toBeGreaterThan(paidFor(unanswered) - unanswered.length - 1);
  },
);
