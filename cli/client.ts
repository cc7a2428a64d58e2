import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { JobStatus, StageProgress } from '../core/job.ts';
import type { Problem } from '../core/problem.ts';
import { type MediaUpload, multipart, type RequestOptions } from './multipart.ts';
import { sendBody } from './send-body.ts';
import { ApiProblem, explainFailure, isPassing, readProblem, ServiceUnreachable } from './service-errors.ts';

export interface StageView {
  name: string;
  status: string;
  seconds: number;
  progress?: StageProgress;
}

/** The members of a transcription that the command line reads. */
export interface Transcription {
  id: string;
  status: JobStatus;
  stage: string | null;
  progress: { percent: number; stages: StageView[] };
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
  metrics: {
    processing_seconds: number | null;
    realtime_factor: number | null;
    queue_seconds?: number | null;
    cold_start_seconds?: number | null;
    /** Where it went: docs/cold-start.md. */
    cold_start?: { instance: 'cold' | 'warm'; [part: string]: number | string | null } | null;
  };
  cost?: { marginal_usd: number | null; attributed_usd?: number | null } | null;
  usage?: {
    backend: string;
    busy_seconds: number;
    cold_start_seconds: number;
    gpu_seconds: number;
    api_audio_seconds?: number;
  }[];
}

export interface TranscriptionPage {
  data: Transcription[];
  has_more: boolean;
}

/** Where the media of a transcription is when it does not come with the request. */
export type Source = { upload_id: string } | { url: string } | { gcs_uri: string };

/** A file that will come in pieces. */
export interface UploadRequest {
  filename: string;
  contentType: string;
  sizeBytes: number;
}

/** Where to send the bytes of an upload without passing the service: a resumable session of Cloud Storage. */
export interface DirectUpload {
  upload_id: string;
  url: string;
  headers?: Record<string, string>;
  expires_at: string;
}

export interface TusUpload {
  upload_id: string;
  expires_at: string | null;
}

const ANSWER_TIMEOUT_MS = 60_000;
/** Before it answers, the service may have gigabytes to copy. */
const CREATE_TIMEOUT_MS = 300_000;
const RETRY_DELAYS_MS = [500, 1_500, 4_000];
/** Ways of uploading that a service does not have. */
const NOT_OFFERED = new Set([404, 405]);

/** The HTTP API as typed calls. Every call can be repeated without harm, so each survives a short disturbance. */
export class Client {
  readonly server: string;
  readonly authorization: Readonly<Record<string, string>>;

  /**
   * @param server an http(s) address, without a slash at its end
   * @param others headers of every request besides the key, for what stands before the service
   */
  constructor(server: string, apiKey?: string, others: Readonly<Record<string, string>> = {}) {
    this.server = server;
    this.authorization = { ...others, ...(apiKey && { authorization: `Bearer ${apiKey}` }) };
  }

  /** Uploads from disk without holding the file in memory. */
  async create(
    media: MediaUpload,
    { signal, onUpload }: { signal?: AbortSignal; onUpload?: (sentBytes: number) => void } = {},
  ): Promise<Transcription> {
    // The same for every try: a request whose answer was lost does not become a second job.
    const headers = { ...this.authorization, 'idempotency-key': randomUUID() };
    const answer = await retrying(signal, () => this.#upload(media, headers, signal, onUpload));
    return parseJson(answer);
  }

  /** Of media that is somewhere already. The same key never makes a second transcription. */
  async createFrom(
    source: Source,
    options: RequestOptions,
    { signal, idempotencyKey = randomUUID() }: { signal?: AbortSignal; idempotencyKey?: string } = {},
  ): Promise<Transcription> {
    const answer = await this.#call('POST', '/v1/transcriptions', signal, {
      body: { source, ...options },
      headers: { 'idempotency-key': idempotencyKey },
      timeoutMs: CREATE_TIMEOUT_MS,
    });
    return parseJson(answer);
  }

  /** Undefined where the service does not offer this. */
  async startDirectUpload(
    { filename, contentType, sizeBytes }: UploadRequest,
    signal?: AbortSignal,
  ): Promise<DirectUpload | undefined> {
    const body = { filename, content_type: contentType, size_bytes: sizeBytes };
    try {
      return parseJson(await this.#call('POST', '/v1/uploads/direct', signal, { body }));
    } catch (error) {
      if (error instanceof ApiProblem && NOT_OFFERED.has(error.problem.status)) return undefined;
      throw error;
    }
  }

  /** By the tus protocol. Undefined where the service does not offer this. */
  async startTusUpload(
    { filename, contentType, sizeBytes }: UploadRequest,
    signal?: AbortSignal,
  ): Promise<TusUpload | undefined> {
    const base64 = (text: string) => Buffer.from(text).toString('base64');
    const answer = await retrying(signal, async () => {
      const response = await this.#fetch('/v1/uploads', signal, {
        method: 'POST',
        headers: {
          'tus-resumable': '1.0.0',
          'upload-length': String(sizeBytes),
          'upload-metadata': `filename ${base64(filename)},filetype ${base64(contentType)}`,
        },
        timeoutMs: ANSWER_TIMEOUT_MS,
      });
      if (NOT_OFFERED.has(response.status)) return undefined;
      accept(response.status, response.text);
      return response;
    });
    if (answer === undefined) return undefined;
    // Only the id: the key goes to the address that the user gave, whatever a proxy made of this one.
    const id = /\/(up_[\w-]+)\/?$/.exec(answer.headers.get('location') ?? '')?.[1];
    if (id === undefined) throw notOurs();
    const expires = Date.parse(answer.headers.get('upload-expires') ?? '');
    return { upload_id: id, expires_at: Number.isNaN(expires) ? null : new Date(expires).toISOString() };
  }

  tusAddress(uploadId: string): string {
    return `${this.server}/v1/uploads/${encodeURIComponent(uploadId)}`;
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

  async #call(
    method: string,
    target: string,
    signal?: AbortSignal,
    { body, headers, timeoutMs = ANSWER_TIMEOUT_MS }: CallDetails = {},
  ): Promise<string> {
    return await retrying(signal, async () => {
      const response = await this.#fetch(target, signal, {
        method,
        headers: { ...headers, ...(body !== undefined && { 'content-type': 'application/json' }) },
        timeoutMs,
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      return accept(response.status, response.text);
    });
  }

  async #fetch(
    target: string,
    signal: AbortSignal | undefined,
    { timeoutMs, headers, ...init }: RequestInit & { timeoutMs: number; headers: Record<string, string> },
  ): Promise<{ status: number; headers: Headers; text: string }> {
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      const response = await fetch(`${this.server}${target}`, {
        ...init,
        headers: { ...this.authorization, ...headers },
        signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      });
      return { status: response.status, headers: response.headers, text: await response.text() };
    } catch (error) {
      throw explainFailure(this.server, error, signal);
    }
  }

  async #upload(
    media: MediaUpload,
    headers: Record<string, string>,
    signal: AbortSignal | undefined,
    onUpload: ((sentBytes: number) => void) | undefined,
  ): Promise<string> {
    const form = multipart(media, onUpload);
    try {
      const answer = await sendBody(`${this.server}/v1/transcriptions`, {
        method: 'POST',
        headers: { ...headers, 'content-type': form.contentType, 'content-length': form.sizeBytes },
        body: form.body,
        ...(signal && { signal }),
      });
      return accept(answer.status, answer.text);
    } catch (error) {
      throw explainFailure(this.server, error, signal);
    }
  }
}

interface CallDetails {
  body?: unknown;
  headers?: Record<string, string>;
  timeoutMs?: number;
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

function accept(status: number, body: string): string {
  if (status >= 200 && status < 300) return body;
  throw new ApiProblem(readProblem(status, body));
}

function parseJson<T>(body: string): T {
  try {
    return JSON.parse(body) as T;
  } catch {
    throw notOurs();
  }
}

function notOurs(): ServiceUnreachable {
  return new ServiceUnreachable('The answer is not from Zeroscribe. Check the address given with --server.');
}
