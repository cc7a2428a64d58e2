import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type Problem, problemSlug } from '../../core/problem.ts';
import { FakeMistral, type FakeMistralOptions } from '../../tests/support/fake-mistral/fake-mistral.ts';
import { hearNumbers, spokenNumbers } from '../../tests/support/fake-mistral/spoken-numbers.ts';
import { makeVoxtralWorker, type VoxtralWorker } from '../../tests/support/voxtral-worker.ts';

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
      usage: [{ backend: 'voxtral', api_audio_seconds: 5, unconfirmed_audio_seconds: 0 }],
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

  test('that is longer is cut where it is quiet, and no word is lost, doubled or moved', async () => {
    const tools = worker.tools(await startApi());
    const job = await worker.submit({}, spokenNumbers(95));
    expect(await worker.attempt(job, tools)).toEqual({ kind: 'done' });
    expect(api.served.length).toBeGreaterThanOrEqual(11);
    for (const { request } of api.served) expect(request.seconds).toBeLessThanOrEqual(10);
    const { segments, text, duration } = await worker.transcript(job);
    expect(duration).toBe(95);
    expect(text.split(' ')).toEqual(numbersUpTo(95));
    expect(segments.flatMap(({ words }) => words)).toEqual(
      numbersUpTo(95).map((word, n) => ({ word, start: n + 0.2, end: n + 0.8 })),
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
