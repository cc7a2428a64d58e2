import { expect, test } from '@jest/globals';
import { type Asking, askPatiently, type Patience } from './ask-patiently.ts';
import type { CarriedAudio } from './audio-carrier.ts';
import type { Reply, SentAudio } from './mistral.ts';

const PATIENCE: Patience = {
  backoff: { minMs: 1, maxMs: 2, maxDoublings: 1 },
  totalWaitMs: 1_000,
  lostAnswers: 3,
  requestMs: 60_000,
  requestMsPerSecond: 0,
  maxRequestMs: 60_000,
};
const QUESTION = { model: 'm', granularity: 'word', diarize: false, contextBias: [] } as const;
const ANSWER: Reply = {
  kind: 'answer',
  answer: { text: 'Hello', language: null, segments: [], paidSeconds: 1 },
};
const refusal = (status: number, retryAfterMs: number | null = null): Reply => ({
  kind: 'refusal',
  status,
  words: 'its words',
  isOfModel: false,
  retryAfterMs,
});
const lost = (wasSent: boolean): Reply => ({ kind: 'lost', wasSent, because: 'ConnectionError' });
const upload = (): CarriedAudio => ({
  audio: { file: new Blob(['audio']) },
  [Symbol.asyncDispose]: async () => {},
});
const never = new AbortController().signal;

function ask(
  replies: Reply[],
  {
    carry = async () => upload(),
    ...changes
  }: Partial<Asking> & { carry?: () => Promise<CarriedAudio> } = {},
) {
  const asked: { audio: SentAudio }[] = [];
  let lostAnswers = 0;
  const mistral = {
    ask: async ({ audio }: { audio: SentAudio }) => {
      asked.push({ audio });
      return replies[asked.length - 1] ?? ANSWER;
    },
  };
  const asking: Asking = {
    mistral,
    patience: PATIENCE,
    begin: never,
    finish: never,
    onLost: async () => {
      lostAnswers += 1;
    },
    ...changes,
  };
  return { answer: askPatiently(QUESTION, 10, carry, asking), asked, lostAnswers: () => lostAnswers };
}

test.each<[string, number, Reply[]]>([
  ['a limit of the rate', 0, [refusal(429), refusal(429, 0)]],
  ['failures of the API', 0, [refusal(500), refusal(503)]],
  [
    'a connection that broke before the request was sent',
    0,
    [lost(false), lost(false), lost(false), lost(false)],
  ],
  ['answers that were lost', 2, [lost(true), lost(true)]],
  ['a gateway that lost them', 2, [refusal(502), refusal(504)]],
])('asks again after %s, and counts %p that may have been paid', async (_, unconfirmed, replies) => {
  const { answer, asked, lostAnswers } = ask(replies);
  expect(await answer).toMatchObject({ text: 'Hello' });
  expect(asked).toHaveLength(replies.length + 1);
  expect(lostAnswers()).toBe(unconfirmed);
});

test('waits as long as the API says', async () => {
  const waits: number[] = [];
  await ask([refusal(429, 150)], { wait: async (ms) => void waits.push(ms) }).answer;
  expect(waits).toEqual([150]);
});

test('waits as long as it may where the API says longer, and does not ask before', async () => {
  const waits: number[] = [];
  const { answer, asked } = ask([refusal(429, 300), refusal(429, 3_600_000)], {
    wait: async (ms) => void waits.push(ms),
  });
  await expect(answer).rejects.toMatchObject({
    slug: 'voxtral-unavailable',
    message: expect.stringContaining('429: its words'),
  });
  expect(waits).toEqual([300, 700]);
  expect(asked).toHaveLength(2);
});

test.each<[string, string, Reply[]]>([
  ['voxtral-unavailable', 'was lost (ConnectionError)', [lost(true), lost(true), lost(true)]],
  ['voxtral-not-authorized', 'MISTRAL_API_KEY', [refusal(401)]],
  ['voxtral-not-authorized', 'billing', [refusal(402)]],
  ['voxtral-misconfigured', 'MISTRAL_API_ENDPOINT', [refusal(404)]],
  ['voxtral-misconfigured', 'the model', [{ ...refusal(400), isOfModel: true } as Reply]],
  ['voxtral-refused', '(422: its words)', [refusal(422)]],
  ['voxtral-refused', '(400: its words)', [refusal(400)]],
])('gives up with %s: %s', async (slug, words, replies) => {
  const { answer, asked } = ask(replies);
  await expect(answer).rejects.toMatchObject({ slug, message: expect.stringContaining(words) });
  expect(asked).toHaveLength(replies.length);
});

test('waits in vain only so long', async () => {
  const { answer, asked } = ask(
    Array.from({ length: 10_000 }, () => refusal(503)),
    {
      patience: { ...PATIENCE, totalWaitMs: 20 },
    },
  );
  await expect(answer).rejects.toMatchObject({ slug: 'voxtral-unavailable' });
  expect(asked.length).toBeLessThan(30);
});

test('no request begins once no more may', async () => {
  const stop = new AbortController();
  const { answer, asked } = ask([refusal(503)], {
    begin: stop.signal,
    patience: {
      ...PATIENCE,
      backoff: { minMs: 60_000, maxMs: 60_000, maxDoublings: 0 },
      totalWaitMs: 100_000,
    },
  });
  stop.abort(new Error('stop'));
  await expect(answer).rejects.toThrow('stop');
  expect(asked.length).toBeLessThanOrEqual(1);
});

test('what the API cannot fetch is uploaded, and only if that helps the link was the reason', async () => {
  let confirmed = 0;
  const confirm = () => {
    confirmed += 1;
  };
  const carry = async (): Promise<CarriedAudio> => ({
    audio: { fileUrl: 'https://bucket.example/secret' },
    instead: { carry: async () => upload(), confirm },
    [Symbol.asyncDispose]: async () => {},
  });
  const helped = ask([refusal(400)], { carry });
  await helped.answer;
  expect(helped.asked.map(({ audio }) => Object.keys(audio)[0])).toEqual(['fileUrl', 'file']);
  expect(confirmed).toBe(1);

  const refusedBoth = ask([refusal(422), refusal(422)], { carry });
  await expect(refusedBoth.answer).rejects.toMatchObject({ slug: 'voxtral-refused' });
  const busy = ask([refusal(429)], { carry });
  await busy.answer;
  expect(busy.asked.map(({ audio }) => Object.keys(audio)[0])).toEqual(['fileUrl', 'fileUrl']);
  expect(confirmed).toBe(1);
});
