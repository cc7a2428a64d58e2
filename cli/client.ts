import { randomUUID } from 'node:crypto';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import type { JobStatus } from '../core/job.ts';
import type { Problem } from '../core/problem.ts';
import { type MediaUpload, multipart, RecordingUnreadable } from './multipart.ts';

/** The members of a transcription that the command line reads. */
export interface Transcription {
  id: string;
  status: JobStatus;
  stage: string | null;
  progress: { percent: number; stages: { name: string; status: string; seconds: number }[] };
  created_at: string;
  started_at: string | null;
  completed_at: string | null;
  source: { type: string; filename: string | null; bytes: number | null };
  duration_seconds: number | null;
  options: { model?: string | null; language?: string | null; [name: string]: unknown };
  model?: string | null;
  backend: string | null;
  routing?: { chosen: string; because: string };
  language: { code: string; probability: number | null } | null;
  warnings: { code: string; message: string }[];
  problem: Problem | null;
  metrics: { processing_seconds: number | null; realtime_factor: number | null };
  cost?: { marginal_usd: number | null } | null;
}

export interface TranscriptionPage {
  data: Transcription[];
  has_more: boolean;
}

/** The service answered with a problem document. */
export class ApiProblem extends Error {
  override readonly name = 'ApiProblem';
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(`${problem.title}: ${problem.detail}`);
    this.problem = problem;
  }
}

/** No answer came. The message is a sentence for the user. */
export class ServiceUnreachable extends Error {
  override readonly name = 'ServiceUnreachable';
  /** The same request may get through in a moment. */
  readonly mayPass: boolean;

  constructor(message: string, { cause, mayPass = false }: { cause?: unknown; mayPass?: boolean } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.mayPass = mayPass;
  }
}

const ANSWER_TIMEOUT_MS = 60_000;
const RETRY_DELAYS_MS = [500, 1_500, 4_000];
/** Answers of a proxy, or of a service that is starting: the same request may succeed in a moment. */
const WORTH_A_RETRY = new Set([502, 503, 504]);
const WILL_NOT_PASS = new Set(['ECONNREFUSED', 'ENOTFOUND']);

/** The HTTP API as typed calls. Every call can be repeated without harm, so each survives a short disturbance. */
export class Client {
  readonly server: string;
  readonly #authorization: Record<string, string>;

  /** @param server an http(s) address, without a slash at its end */
  constructor(server: string, apiKey?: string) {
    this.server = server;
    this.#authorization = apiKey ? { authorization: `Bearer ${apiKey}` } : {};
  }

  /** Uploads from disk without holding the file in memory. */
  async create(
    media: MediaUpload,
    { signal, onUpload }: { signal?: AbortSignal; onUpload?: (sentBytes: number) => void } = {},
  ): Promise<Transcription> {
    // The same for every try: a request whose answer was lost does not become a second job.
    const headers = { ...this.#authorization, 'idempotency-key': randomUUID() };
    const answer = await retrying(signal, () => this.#upload(media, headers, signal, onUpload));
    return parseJson(answer);
  }

  async get(id: string, signal?: AbortSignal): Promise<Transcription> {
    return parseJson(await this.#call('GET', path(id), signal));
  }

  async list(query: { status?: string; limit?: number; after?: string } = {}): Promise<TranscriptionPage> {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) search.set(name, String(value));
    }
    return parseJson(await this.#call('GET', `/v1/transcriptions${search.size > 0 ? `?${search}` : ''}`));
  }

  async transcript(id: string, format: string, signal?: AbortSignal): Promise<string> {
    return await this.#call('GET', `${path(id)}/transcript?format=${encodeURIComponent(format)}`, signal);
  }

  async cancel(id: string, signal?: AbortSignal): Promise<Transcription> {
    return parseJson(await this.#call('POST', `${path(id)}/cancel`, signal));
  }

  async retry(id: string): Promise<Transcription> {
    return parseJson(await this.#call('POST', `${path(id)}/retry`));
  }

  async delete(id: string): Promise<void> {
    await this.#call('DELETE', path(id));
  }

  async #call(method: string, target: string, signal?: AbortSignal): Promise<string> {
    return await retrying(signal, async () => {
      const timeout = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
      try {
        const response = await fetch(`${this.server}${target}`, {
          method,
          headers: this.#authorization,
          signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
        });
        return accept(response.status, await response.text());
      } catch (error) {
        throw this.#explain(error, signal);
      }
    });
  }

  /** Not by `fetch`: it keeps a copy of a streamed body, which for a recording is gigabytes of memory. */
  async #upload(
    media: MediaUpload,
    headers: Record<string, string>,
    signal: AbortSignal | undefined,
    onUpload: ((sentBytes: number) => void) | undefined,
  ): Promise<string> {
    const form = multipart(media, onUpload);
    const request = this.server.startsWith('https:') ? requestHttps : requestHttp;
    const options = {
      method: 'POST',
      headers: { ...headers, 'content-type': form.contentType, 'content-length': form.sizeBytes },
      ...(signal === undefined ? {} : { signal }),
    };
    try {
      return await new Promise<string>((resolve, reject) => {
        const upload = request(`${this.server}/v1/transcriptions`, options, async (response) => {
          try {
            let body = '';
            for await (const piece of response.setEncoding('utf8')) body += piece;
            resolve(accept(response.statusCode ?? 0, body));
          } catch (error) {
            reject(error);
          } finally {
            // A refusal comes before the end of the file: the rest is not wanted.
            upload.destroy();
          }
        });
        upload.once('error', reject);
        form.body.once('error', (error) => upload.destroy(error)).pipe(upload);
        upload.once('close', () => form.body.destroy());
      });
    } catch (error) {
      throw this.#explain(error, signal);
    }
  }

  #explain(error: unknown, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted) return signal.reason;
    if (error instanceof ApiProblem || error instanceof RecordingUnreadable) return error;
    const { name, code, reason } = whatFailed(error);
    if (name === 'TimeoutError') {
      return new ServiceUnreachable(`${this.server} did not answer within ${ANSWER_TIMEOUT_MS / 1000} s.`);
    }
    // Only `fetch` says this, and gives it no code.
    if (reason === 'bad port') {
      return new ServiceUnreachable(
        `Port ${new URL(this.server).port} of ${this.server} is kept for another protocol and never used for HTTP. Check --server.`,
      );
    }
    if (code === undefined) return error;
    return new ServiceUnreachable(this.#describe(code), { cause: error, mayPass: !WILL_NOT_PASS.has(code) });
  }

  #describe(code: string): string {
    switch (code) {
      case 'ECONNREFUSED':
        return `Nothing answers at ${this.server}. Start the service with "zeroscribe serve", or name another with --server.`;
      case 'ENOTFOUND':
        return `The host of ${this.server} cannot be found. Check --server and the network.`;
      default:
        return `The connection to ${this.server} failed (${code}). Check --server and the network.`;
    }
  }
}

/** `fetch` hides what happened in `cause`. */
function whatFailed(error: unknown): Record<'name' | 'code' | 'reason', string | undefined> {
  const outer = error as { name?: string; code?: unknown; cause?: { code?: unknown; message?: string } };
  const code = outer.cause?.code ?? outer.code;
  return {
    name: outer.name,
    code: typeof code === 'string' ? code : undefined,
    reason: outer.cause?.message,
  };
}

const path = (id: string): string => `/v1/transcriptions/${encodeURIComponent(id)}`;

async function retrying<T>(signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> {
  for (const delayMs of RETRY_DELAYS_MS) {
    try {
      return await call();
    } catch (error) {
      if (!isPassing(error)) throw error;
      await delay(delayMs, undefined, signal === undefined ? {} : { signal }).catch(() => {});
      if (signal?.aborted) throw signal.reason;
    }
  }
  return await call();
}

function isPassing(error: unknown): boolean {
  if (error instanceof ApiProblem) return WORTH_A_RETRY.has(error.problem.status);
  return error instanceof ServiceUnreachable && error.mayPass;
}

function accept(status: number, body: string): string {
  if (status >= 200 && status < 300) return body;
  throw new ApiProblem(readProblem(status, body));
}

function readProblem(status: number, body: string): Problem {
  try {
    const problem = JSON.parse(body) as Problem;
    if (typeof problem.title === 'string' && typeof problem.detail === 'string')
      return { ...problem, status };
  } catch {
    // A proxy's page.
  }
  return {
    type: 'about:blank',
    title: `The server answered with status ${status}`,
    status,
    detail: 'The answer is not from Zeroscribe. Check the address given with --server.',
  };
}

function parseJson<T>(body: string): T {
  try {
    return JSON.parse(body) as T;
  } catch {
    throw new ServiceUnreachable('The answer is not from Zeroscribe. Check the address given with --server.');
  }
}
