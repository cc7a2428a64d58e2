import { isNativeError } from 'node:util/types';
import type { MistralConfig } from './config.ts';
import { mistralsWords } from './mistrals-words.ts';
import { postForm } from './post-form.ts';

/** What comes with a request: an address that Mistral fetches the audio from, or the audio. */
export type SentAudio = { fileUrl: string } | { file: Blob };

export interface Question {
  model: string;
  audio: SentAudio;
  /** Of what times are wanted. */
  granularity: 'word' | 'segment';
  diarize: boolean;
  contextBias: readonly string[];
}

export interface Answer {
  text: string;
  /** null: it does not say. */
  language: string | null;
  /** Words, when their times were asked for. */
  segments: {
    text: string;
    start: number | null;
    end: number | null;
    score: number | null;
    speaker: string | null;
  }[];
  /** What it takes money for; null: it does not say. */
  paidSeconds: number | null;
}

export type Reply =
  | { kind: 'answer'; answer: Answer }
  /** `words`: Mistral's own, fit to be shown. `isOfModel`: it has no such model, or not for this key. */
  | { kind: 'refusal'; status: number; words: string; isOfModel: boolean; retryAfterMs: number | null }
  /** No answer, or one that cannot be read. `wasSent`: all of the request had gone, so the work may have been done. */
  | { kind: 'lost'; wasSent: boolean; because: string };

/** Asks once; whoever asks decides what to do about a reply. */
export interface Mistral {
  ask(question: Question, signal: AbortSignal): Promise<Reply>;
}

/** The official client's one call, which is loaded when it is first needed: it takes a second and 70 MB. */
async function loadClient() {
  // Set to anything, it makes the client print every request, and the key with it.
  delete process.env.MISTRAL_DEBUG;
  const [{ MistralCore }, { HTTPClient }, { SDKHooks }, { audioTranscriptionsComplete }] = await Promise.all([
    import('@mistralai/mistralai/core.js'),
    import('@mistralai/mistralai/lib/http.js'),
    import('@mistralai/mistralai/hooks/hooks.js'),
    import('@mistralai/mistralai/funcs/audioTranscriptionsComplete.js'),
  ]);
  return { MistralCore, HTTPClient, SDKHooks, audioTranscriptionsComplete };
}

export function openMistral({ apiKey, endpoint }: MistralConfig): Mistral {
  return {
    async ask({ model, audio, diarize, granularity, contextBias }, signal) {
      const { MistralCore, HTTPClient, SDKHooks, audioTranscriptionsComplete } = await loadClient();
      // It copies each request before it sends it, and a copy of a stream is held in memory. The form goes past that.
      let form: FormData | undefined;
      let wasSent = false;
      const hooks = new SDKHooks();
      hooks.registerBeforeCreateRequestHook({
        beforeCreateRequest(_context, input) {
          form = input.options?.body as FormData;
          return { ...input, options: { ...input.options, body: null } };
        },
      });
      const httpClient = new HTTPClient({
        fetcher: (request) =>
          postForm(request as Request, form as FormData, {
            signal,
            onSent: () => {
              wasSent = true;
            },
          }),
      });
      const options: object = {
        apiKey,
        httpClient,
        hooks,
        ...(endpoint !== undefined && { serverURL: endpoint }),
      };
      const client = new MistralCore(options);
      try {
        const result = await audioTranscriptionsComplete(
          client,
          {
            model,
            ...audio,
            diarize,
            timestampGranularities: [granularity],
            ...(contextBias.length > 0 && { contextBias: [...contextBias] }),
          },
          { signal },
        );
        if (!result.ok) throw result.error;
        const { text, language, segments = [], usage } = result.value;
        const answer = {
          text,
          language,
          segments: segments.map(({ text, start, end, score = null, speakerId: speaker = null }) => ({
            text,
            start,
            end,
            score,
            speaker,
          })),
          paidSeconds: usage.promptAudioSeconds ?? null,
        };
        return { kind: 'answer', answer };
      } catch (error) {
        // Errors of the client hold the whole request and answer: nothing of them but their names goes further.
        return refusalOf(error, apiKey) ?? { kind: 'lost', wasSent, because: namesOf(error) };
      }
    },
  };
}

/** Its code and type for it, of which proxies keep one or the other. */
const INVALID_MODEL = /"code"\s*:\s*"?1500\b|"type"\s*:\s*"invalid_model"/;

function refusalOf(error: unknown, apiKey: string): Reply | undefined {
  const { statusCode: status, body, headers } = error as Partial<HttpError>;
  if (status === undefined || body === undefined || headers === undefined || status < 400) return undefined;
  const words = mistralsWords(body, apiKey);
  const isOfModel = INVALID_MODEL.test(body);
  return { kind: 'refusal', status, words, isOfModel, retryAfterMs: waitOf(headers.get('retry-after')) };
}

interface HttpError {
  statusCode: number;
  body: string;
  headers: Headers;
}

/** RFC 9110, section 10.2.3: seconds or a date. */
function waitOf(retryAfter: string | null): number | null {
  if (retryAfter === null) return null;
  const ms = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1_000 : Date.parse(retryAfter) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : null;
}

/** `ConnectionError ECONNRESET`. */
function namesOf(error: unknown): string {
  const names: string[] = [];
  for (let one = error; isNativeError(one) && names.length < 4; one = one.cause) {
    const { code } = one as NodeJS.ErrnoException;
    names.push(typeof code === 'string' ? `${one.name} ${code}` : one.name);
  }
  return names.join(', ') || 'unknown';
}
