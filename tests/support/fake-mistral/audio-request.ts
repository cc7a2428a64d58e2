import { sampleCount } from '../../../cpu-service/voxtral/flac-header.ts';
import { samplesOf } from './samples-of.ts';

/** Which of Mistral's models are known, and what they take. */
export const MODELS: Readonly<Record<string, { maxSeconds: number; granularities: readonly string[] }>> = {
  'voxtral-mini-2602': { maxSeconds: 3 * 3_600, granularities: ['segment', 'word'] },
  // Its context holds 65,536 tokens of 80 ms.
  'voxtral-mini-transcribe-3': { maxSeconds: 5_242, granularities: ['segment'] },
  'voxtral-small-transcribe-3': { maxSeconds: 5_242, granularities: ['segment'] },
};

const MAX_FILE_BYTES = 512_000_000;
const MAX_URL_CHARACTERS = 2_083;
const MAX_BIAS_TERMS = 100;

/** A request that the API takes. */
export interface AudioRequest {
  model: string;
  seconds: number;
  by: 'file' | 'file_url';
  flac: Buffer;
  /** 16-bit, at 16 kHz. */
  samples(): Promise<Int16Array>;
  granularities: readonly string[];
  diarize: boolean;
  contextBias: readonly string[];
  /** A language beside timestamps: the answer is a success with an empty text. */
  isEmptied: boolean;
}

export interface Heard {
  text: string;
  language?: string | null;
  segments: {
    text: string;
    start: number | null;
    end: number | null;
    speaker?: string;
    score?: number;
  }[];
}

export type Hear = (request: AudioRequest) => Promise<Heard> | Heard;

export class Refusal extends Error {
  readonly status: number;
  readonly body: object;
  constructor(status: number, body: object) {
    super(`refused with ${status}`);
    this.status = status;
    this.body = body;
  }
}

/** As FastAPI says it. */
function invalid(field: string, msg: string, input: unknown): Refusal {
  return new Refusal(422, { detail: [{ type: 'value_error', loc: ['body', field], msg, input }] });
}

function badRequest(message: string, code = '3051'): Refusal {
  return new Refusal(400, { object: 'error', message, type: 'invalid_request_error', param: null, code });
}

/** @throws {Refusal} */
export async function readRequest(
  body: Buffer,
  contentType: string,
  { ffmpegPath, maxSeconds }: { ffmpegPath: string; maxSeconds: number | undefined },
): Promise<AudioRequest> {
  const { values, file } = await fieldsOf(body, contentType);
  const [model] = values('model');
  if (model === undefined) throw invalid('model', 'Field required', null);
  const known = MODELS[model];
  if (known === undefined) throw badRequest(`Invalid model: ${model}`, '1500');
  const [fileUrl] = values('file_url');
  const [fileId] = values('file_id');
  if ([file, fileUrl, fileId].filter((one) => one !== undefined).length !== 1) {
    throw badRequest('Exactly one of file, file_url or file_id must be given');
  }
  if (fileUrl !== undefined && fileUrl.length > MAX_URL_CHARACTERS) {
    throw invalid('file_url', `URL should have at most ${MAX_URL_CHARACTERS} characters`, fileUrl);
  }
  const granularities = values('timestamp_granularities');
  for (const one of granularities) {
    if (!['segment', 'word'].includes(one)) {
      throw invalid('timestamp_granularities', "Input should be 'segment' or 'word'", one);
    }
    if (!known.granularities.includes(one)) throw badRequest(`${model} has no timestamps of a ${one}`);
  }
  if (granularities.length > 1) throw badRequest('Only one timestamp granularity is supported');
  const diarize = values('diarize')[0] === 'true';
  if (diarize && granularities[0] !== 'segment') {
    throw badRequest('Diarization requires timestamp_granularities to be ["segment"]');
  }
  const contextBias = values('context_bias');
  if (contextBias.length > MAX_BIAS_TERMS) throw invalid('context_bias', 'List too long', contextBias);
  const bad = contextBias.find((term) => !/^[^\s,]+$/.test(term));
  if (bad !== undefined) throw invalid('context_bias', 'Terms hold no spaces or commas', bad);

  const flac = file ?? (await fetchAudio(fileUrl as string));
  if (flac.length > MAX_FILE_BYTES) throw new Refusal(413, { message: 'Request Entity Too Large' });
  let decoded: Promise<Int16Array> | undefined;
  const samples = () => {
    decoded ??= samplesOf(ffmpegPath, flac);
    return decoded;
  };
  const counted = flac.toString('latin1', 0, 4) === 'fLaC' ? sampleCount(flac) : 0;
  const seconds = (counted || (await samples()).length) / 16_000;
  if (seconds === 0) throw badRequest('Audio could not be decoded');
  if (seconds > Math.min(known.maxSeconds, maxSeconds ?? Number.POSITIVE_INFINITY)) {
    throw badRequest(`Audio of ${Math.round(seconds)} s is too long`);
  }
  return {
    model,
    seconds,
    by: file === undefined ? 'file_url' : 'file',
    flac,
    samples,
    granularities,
    diarize,
    contextBias,
    isEmptied: values('language').length > 0 && granularities.length > 0,
  };
}

async function fieldsOf(body: Buffer, contentType: string) {
  if (contentType.startsWith('application/json')) {
    const json = JSON.parse(body.toString('utf8')) as Record<string, unknown>;
    const values = (name: string): string[] =>
      [json[name] ?? []].flat().map((value) => (typeof value === 'string' ? value : JSON.stringify(value)));
    return { values, file: undefined };
  }
  const form = await new Response(body, { headers: { 'Content-Type': contentType } }).formData();
  const sent = form.get('file');
  const file = sent instanceof Blob ? Buffer.from(await sent.arrayBuffer()) : undefined;
  return { values: (name: string) => form.getAll(name).filter((value) => typeof value === 'string'), file };
}

async function fetchAudio(url: string): Promise<Buffer> {
  const response = await fetch(url).catch(() => undefined);
  if (response?.ok !== true) throw badRequest(`Failed to fetch the file from ${url}`);
  return Buffer.from(await response.arrayBuffer());
}
