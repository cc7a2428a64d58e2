import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { type AudioRequest, type Hear, type Heard, MODELS, Refusal, readRequest } from './audio-request.ts';

/** What goes wrong with one request. */
export type Fault =
  /** Refused before any work; `retryAfter` in seconds. */
  | { status: number; retryAfter?: number }
  /** The connection breaks before the work is done, or after it: then it is paid for, and nobody has the answer. */
  | 'dropped-before'
  | 'dropped-after'
  /** Paid for. */
  | 'half-an-answer'
  | 'twice-the-answer'
  | 'empty-text'
  | { delayMs: number };

/** One request that was understood. */
export interface Served {
  request: AudioRequest;
  /** What the API takes money for. */
  paidSeconds: number;
  /** Whether the answer went out whole. */
  isAnswered: boolean;
  heard: Heard;
}

export interface FakeMistralOptions {
  apiKey?: string;
  hear: Hear;
  ffmpegPath: string;
  /** What the nth request (from 0) meets. */
  faultOf?: (n: number, request: AudioRequest) => Fault | undefined;
  maxSeconds?: number;
}

/**
 * `POST /v1/audio/transcriptions` as Mistral's schema and pages have it (docs.mistral.ai: the API reference, the limits,
 * the change to Voxtral 3), with its traps: a language beside timestamps empties the text, words are refused by
 * Voxtral 3 and come instead of segments from its predecessor, speakers need segments. What it hears is for the test to
 * say. It cannot know what the real API does beyond its pages.
 */
export class FakeMistral {
  readonly served: Served[] = [];
  /** Every request, understood or not. */
  requests = 0;
  /** At the same time. */
  mostAtOnce = 0;
  readonly #options: FakeMistralOptions;
  readonly #server = createServer((req, res) => void this.#serve(req, res));
  #running = 0;

  constructor(options: FakeMistralOptions) {
    this.#options = options;
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this.url;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Whether it works on no request, not even on one that nobody waits for any more. */
  get isIdle(): boolean {
    return this.#running === 0;
  }

  get paidSeconds(): number {
    return this.served.reduce((sum, { paidSeconds }) => sum + paidSeconds, 0);
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return;
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  async #serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const n = this.requests++;
    this.#running += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#running);
    try {
      await this.#answer(n, req, res);
    } catch (error) {
      if (error instanceof Refusal) this.#refuse(res, error.status, error.body);
      else if (!res.destroyed)
        this.#refuse(res, 500, { object: 'error', message: String(error), code: '3000' });
    } finally {
      this.#running -= 1;
    }
  }

  async #answer(n: number, req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { apiKey = 'test-key', hear, ffmpegPath, faultOf, maxSeconds } = this.#options;
    if (req.method !== 'POST' || req.url !== '/v1/audio/transcriptions') {
      throw new Refusal(404, { detail: 'Not Found' });
    }
    if (req.headers.authorization !== `Bearer ${apiKey}`) throw new Refusal(401, { detail: 'Unauthorized' });
    const body = await buffer(req);
    const request = await readRequest(body, req.headers['content-type'] ?? '', { ffmpegPath, maxSeconds });
    const fault = faultOf?.(n, request);
    if (typeof fault === 'object' && 'status' in fault) {
      if (fault.retryAfter !== undefined) res.setHeader('Retry-After', String(fault.retryAfter));
      if (fault.status === 429) res.setHeader('x-ratelimit-remaining-req-minute', '0');
      throw new Refusal(fault.status, { object: 'error', message: 'Fault', type: 'fault', code: '1300' });
    }
    if (fault === 'dropped-before') {
      res.destroy();
      return;
    }
    const isEmpty = fault === 'empty-text' || request.isEmptied;
    const heard = isEmpty ? { text: '', segments: [] } : await hear(request);
    const paidSeconds = Math.ceil(request.seconds);
    const served: Served = { request, paidSeconds, isAnswered: false, heard };
    this.served.push(served);
    if (typeof fault === 'object') await sleep(fault.delayMs);
    if (fault === 'dropped-after' || res.destroyed) {
      res.destroy();
      return;
    }
    const text = JSON.stringify({
      model: request.model,
      text: heard.text,
      language: heard.language ?? null,
      segments: request.granularities.length === 0 ? [] : heard.segments.map(asSegment),
      usage: {
        prompt_audio_seconds: paidSeconds,
        prompt_tokens: 4,
        completion_tokens: heard.text.length,
        total_tokens: heard.text.length + 4,
      },
    });
    res.setHeader('Content-Type', 'application/json');
    if (fault === 'half-an-answer') res.end(text.slice(0, text.length / 2));
    else if (fault === 'twice-the-answer') res.end(text + text);
    else {
      served.isAnswered = true;
      res.end(text);
    }
  }

  #refuse(res: ServerResponse, status: number, body: object): void {
    if (res.headersSent) return;
    res.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
  }
}

function asSegment({ text, start, end, speaker, score }: Heard['segments'][number]) {
  return {
    type: 'transcription_segment',
    text,
    start,
    end,
    ...(speaker !== undefined && { speaker_id: speaker }),
    ...(score !== undefined && { score }),
  };
}

export { MODELS };
