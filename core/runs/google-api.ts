import { setTimeout as sleep } from 'node:timers/promises';
import { type Backoff, backoffMs } from '../queue/backoff.ts';
import { withoutTokens } from '../without-tokens.ts';
import { type Refusal, RunRefused, RunUnclear } from './runs.ts';

/** The API did not do what it was asked. The message is safe to log: it holds no token. */
export class GoogleApiError extends Error {
  override readonly name = 'GoogleApiError';
  /** Undefined when there was no answer. */
  readonly status: number | undefined;
  /** What the API itself said, without what it was asked. */
  readonly said: string;

  constructor(message: string, { status, said = '' }: { status?: number; said?: string } = {}) {
    super(message);
    this.status = status;
    this.said = said;
  }

  get isPassing(): boolean {
    return this.status === undefined || PASSING_STATUSES.has(this.status);
  }
}

const PASSING_STATUSES = new Set([408, 429, 500, 502, 503, 504]);
const LONGEST_REASON = 300;

/** How long a call may take. A test shortens it. */
export interface Patience {
  /** One try. */
  attemptMs: number;
  /** All tries of a call that may be repeated. */
  totalMs: number;
  backoff: Backoff;
}

const PATIENCE: Patience = {
  attemptMs: 20_000,
  totalMs: 30_000,
  backoff: { minMs: 250, maxMs: 8_000, maxDoublings: 5 },
};

export interface GoogleApiOptions {
  /** Such as `https://run.googleapis.com`. */
  origin: string;
  /** What a request is signed with; for an emulator nothing. */
  authorize(): Promise<Record<string, string>>;
  patience?: Partial<Patience>;
}

export interface Call {
  method: 'GET' | 'POST';
  /** Below the origin, with its version. */
  path: string;
  query?: Record<string, string>;
  body?: unknown;
}

/** The few calls of a REST API of Google's that we need, without the client library of each. */
export class GoogleApi {
  readonly #options: GoogleApiOptions;
  readonly #patience: Patience;

  constructor(options: GoogleApiOptions) {
    this.#options = options;
    this.#patience = { ...PATIENCE, ...options.patience };
  }

  /** One that does no harm when it is done twice: until it succeeds, fails for good, or time is up. */
  async repeat<T>(call: Call): Promise<T> {
    const { totalMs, backoff } = this.#patience;
    const deadlineMs = performance.now() + totalMs;
    for (let tries = 1; ; tries++) {
      try {
        return await this.once(call);
      } catch (error) {
        if (!(error instanceof GoogleApiError && error.isPassing)) throw error;
        const waitMs = backoffMs(tries, backoff) * (0.5 + Math.random() / 2);
        if (performance.now() + waitMs > deadlineMs) throw error;
        await sleep(waitMs);
      }
    }
  }

  async once<T>({ method, path, query = {}, body }: Call): Promise<T> {
    const what = `${method} ${path}`;
    const url = new URL(`${this.#options.origin}${path}`);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    let response: Response;
    let text: string;
    try {
      response = await fetch(url, {
        method,
        headers: { 'content-type': 'application/json', ...(await this.#options.authorize()) },
        body: body === undefined ? null : JSON.stringify(body),
        redirect: 'error',
        signal: AbortSignal.timeout(this.#patience.attemptMs),
      });
      // Half an answer is no answer.
      text = await response.text();
    } catch (error) {
      throw new GoogleApiError(`${what} had no answer: ${reasonOf(error)}`);
    }
    if (!response.ok) {
      const { status } = response;
      const said = messageIn(text);
      throw new GoogleApiError(`${what} failed with ${status}: ${said}`, { status, said });
    }
    try {
      return JSON.parse(text || '{}') as T;
    } catch {
      throw new GoogleApiError(`${what} had an answer that is no JSON`);
    }
  }

  /** All pages of a list. */
  async *list<T>(path: string, field: string, query: Record<string, string> = {}): AsyncGenerator<T> {
    for (let pageToken = ''; ; ) {
      const paged = pageToken === '' ? query : { ...query, pageToken };
      const page: Record<string, unknown> = await this.repeat({ method: 'GET', path, query: paged });
      yield* (page[field] ?? []) as T[];
      pageToken = String(page.nextPageToken ?? '');
      if (pageToken === '') return;
    }
  }
}

/** Texts that mean a lack of room, whatever the status they come with. */
const LACK_OF_ROOM =
  /quota|capacity|resource[_ ]exhausted|unable to offer|insufficient|not enough|out of stock|stockout/i;
const SERVICE_OFF = /has not been used in project|it is disabled/i;
/** They may quote names, in which anything may be written. */
const NO_RIGHT = /permission|authentication scopes/i;

/** What the failure of a start means. */
export function explainStart(error: unknown): unknown {
  if (!(error instanceof GoogleApiError)) return error;
  const refusal = refusalOf(error);
  return refusal === undefined ? new RunUnclear(error.message) : new RunRefused(refusal, error.message);
}

function refusalOf({ status, said }: GoogleApiError): Refusal | undefined {
  if (status === undefined) return undefined;
  if (status === 401 || SERVICE_OFF.test(said)) return 'forbidden';
  if (status === 403 && NO_RIGHT.test(said)) return 'forbidden';
  if (status === 404) return 'missing';
  if (status === 429 || status === 409 || LACK_OF_ROOM.test(said)) return 'busy';
  if (status === 403) return 'forbidden';
  return status >= 400 && status < 500 && status !== 408 ? 'invalid' : undefined;
}

function messageIn(text: string): string {
  let message = text;
  try {
    const found: unknown = JSON.parse(text)?.error?.message;
    if (typeof found === 'string') message = found;
  } catch {
    // A page of a front end.
  }
  return withoutTokens(message).slice(0, LONGEST_REASON);
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  const reason = cause instanceof Error ? `${message}: ${cause.message}` : message;
  return withoutTokens(reason).slice(0, LONGEST_REASON);
}
