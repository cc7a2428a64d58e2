import { setTimeout as sleep } from 'node:timers/promises';
import { ServiceError } from '../../core/problem.ts';
import { type Backoff, backoffMs } from '../../core/queue/backoff.ts';
import type { CarriedAudio } from './audio-carrier.ts';
import type { Answer, Mistral, Question, Reply } from './mistral.ts';

/** How long a call goes on asking for one piece. A test shortens it. */
export interface Patience {
  /** Between tries, where the API does not say how long to wait. */
  backoff: Backoff;
  /** Waiting for better times, all in all. */
  totalWaitMs: number;
  /** Answers that are lost, each of which may have been paid for. */
  lostAnswers: number;
  /** One request: so much, and so much more for every second of audio. */
  requestMs: number;
  requestMsPerSecond: number;
  maxRequestMs: number;
}

export const PATIENCE: Patience = {
  backoff: { minMs: 1_000, maxMs: 60_000, maxDoublings: 6 },
  totalWaitMs: 10 * 60_000,
  lostAnswers: 3,
  requestMs: 2 * 60_000,
  requestMsPerSecond: 250,
  maxRequestMs: 15 * 60_000,
};

type Refusal = Extract<Reply, { kind: 'refusal' }>;

export interface Asking {
  mistral: Mistral;
  patience: Patience;
  /** When it aborts, no request is begun any more; with its reason, once the one that runs has ended without an answer. */
  begin: AbortSignal;
  /** When it aborts, a request that runs is given up. */
  finish: AbortSignal;
  /** An answer was lost that may have been paid for. */
  onLost(): Promise<void>;
  /** Until then, or until `signal` aborts; a test does not wait. */
  wait?(ms: number, signal: AbortSignal): Promise<void>;
}

async function waitFor(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {});
}

/** A gateway has lost the answer of the API, or lost patience with it. */
const LOST_ON_THE_WAY = new Set([502, 504]);

/**
 * Asks until there is an answer. A refusal that may pass is met by waiting, as long as the API says; a lost answer by
 * asking again, a few times.
 * @throws {ServiceError} `voxtral-…`, or the reason of `begin`
 */
export async function askPatiently(
  question: Omit<Question, 'audio'>,
  seconds: number,
  carry: () => Promise<CarriedAudio>,
  asking: Asking,
): Promise<Answer> {
  const { patience, begin, wait: pass = waitFor } = asking;
  let waitedMs = 0;
  let lost = 0;
  for (let tries = 1; ; tries++) {
    begin.throwIfAborted();
    const reply = await askOnce(question, seconds, carry, asking);
    if (reply.kind === 'answer') return reply.answer;
    if (wasPaidPerhaps(reply)) {
      await asking.onLost();
      lost += 1;
    }
    begin.throwIfAborted();
    if (reply.kind === 'refusal' && !isPassing(reply.status)) throw refused(reply);
    if (lost >= patience.lostAnswers) throw unavailable(reply);
    const wait = Math.max(
      // Not all at once: those that were refused together would be refused together again.
      backoffMs(tries, patience.backoff) * (0.75 + Math.random() / 2),
      (reply.kind === 'refusal' ? reply.retryAfterMs : null) ?? 0,
    );
    const rest = patience.totalWaitMs - waitedMs;
    waitedMs += wait;
    // Also where that is not long enough: attempts that end at once would be used up before better times come.
    await pass(Math.min(wait, rest), begin);
    begin.throwIfAborted();
    if (wait > rest) throw unavailable(reply);
  }
}

async function askOnce(
  question: Omit<Question, 'audio'>,
  seconds: number,
  carry: () => Promise<CarriedAudio>,
  { mistral, patience, finish }: Asking,
): Promise<Reply> {
  const { requestMs, requestMsPerSecond, maxRequestMs } = patience;
  const ask = async (carried: CarriedAudio) => {
    const timeout = AbortSignal.timeout(Math.min(maxRequestMs, requestMs + seconds * requestMsPerSecond));
    return mistral.ask({ ...question, audio: carried.audio }, AbortSignal.any([finish, timeout]));
  };
  await using carried = await carry();
  const reply = await ask(carried);
  const { instead } = carried;
  if (instead === undefined || reply.kind !== 'refusal' || !isAboutTheRequest(reply.status)) return reply;
  await using other = await instead.carry();
  const second = await ask(other);
  if (second.kind === 'answer') instead.confirm();
  return second;
}

function wasPaidPerhaps(reply: Exclude<Reply, { kind: 'answer' }>): boolean {
  return reply.kind === 'lost' ? reply.wasSent : LOST_ON_THE_WAY.has(reply.status);
}

function isPassing(status: number): boolean {
  return status === 408 || status === 409 || status === 425 || status === 429 || status >= 500;
}

function isUnauthorized(status: number): boolean {
  return status === 401 || status === 402 || status === 403;
}

function isAboutTheRequest(status: number): boolean {
  return !isPassing(status) && !isUnauthorized(status);
}

/** What the operator has set, and no recording can change: the address, or the model. */
function isMisconfigured({ status, isOfModel }: Refusal): boolean {
  return status === 404 || status === 405 || isOfModel;
}

function refused(reply: Refusal): ServiceError {
  const { status, words } = reply;
  const said = words === '' ? '' : `: ${words}`;
  if (isUnauthorized(status)) {
    return new ServiceError(
      'voxtral-not-authorized',
      `Mistral’s API does not accept the key of this service (${status}${said}). Its operator sets MISTRAL_API_KEY, or looks at the billing; then ask for a retry.`,
    );
  }
  if (isMisconfigured(reply)) {
    return new ServiceError(
      'voxtral-misconfigured',
      `Mistral’s API does not know the address or the model (${status}${said}). The operator of this service looks at MISTRAL_API_ENDPOINT and the model of the backend; then ask for a retry.`,
    );
  }
  return new ServiceError(
    'voxtral-refused',
    `Mistral’s API refuses this recording (${status}${said}). Change what it names and submit again, or choose the tier premium.`,
  );
}

function unavailable(reply: Exclude<Reply, { kind: 'answer' }>): ServiceError {
  const cause =
    reply.kind === 'lost'
      ? `the answer was lost (${reply.because})`
      : `it says ${reply.status}${reply.words === '' ? '' : `: ${reply.words}`}`;
  return new ServiceError(
    'voxtral-unavailable',
    `Mistral’s API does not answer: ${cause}. What it has answered is kept; the rest is tried again. If it goes on, ask the operator.`,
  );
}
