import { z } from 'zod';
import { FORMAT_NAMES } from './formats/format-options.ts';
import { WHISPER_LANGUAGES } from './languages.ts';
import { ServiceError } from './problem.ts';
import { invalidOption, readOptions } from './read-options.ts';
import { boolean, list, number } from './text-values.ts';

const speakers = number(
  z.int('must be a whole number').min(1, 'must be at least 1').max(50, 'must be at most 50'),
);

const FRACTION = 'must be a number between 0 and 1';
const fraction = number(z.number(FRACTION).gt(0, FRACTION).lt(1, FRACTION));

const CHUNK_SECONDS = 'must be a number of seconds from 1 to 30';
const MAX_TRACK = 99;
const TRACK = `must be the number of an audio track, from 0 to ${MAX_TRACK}`;
const DEADLINE = 'must be a number of seconds, from 1 to 2592000 (30 days)';
const FORMATS = `must be formats of ${FORMAT_NAMES.join(', ')}, separated by commas`;
const MODEL_NAME = 'must be a name of 1 to 200 characters';
const TEXT = 'must be text of up to 2000 characters';

const metadata = z.preprocess(
  (value) => {
    if (typeof value !== 'string') return value;
    try {
      return JSON.parse(value);
    } catch {
      return value;
    }
  },
  z.custom<Record<string, string>>(
    isMetadata,
    'must be an object of up to 16 texts of at most 512 characters, with names of at most 64',
  ),
);

function isMetadata(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const pairs = Object.entries(value);
  // Whoever copied an object with a pair of the name __proto__ would lose it.
  const isPair = ([name, text]: [string, unknown]) =>
    name !== '__proto__' && name.length <= 64 && typeof text === 'string' && text.length <= 512;
  return pairs.length <= 16 && pairs.every(isPair);
}

const language = z
  .string('must be a language code such as en')
  .transform((code) => code.toLowerCase())
  .refine(
    (code) => WHISPER_LANGUAGES.has(code),
    'must be an ISO 639-1 code that Whisper knows, such as en or de',
  );

const OPTIONS = z.strictObject({
  tier: z.enum(['premium', 'standard', 'auto'], 'must be premium, standard or auto').default('premium'),
  model: z.string(MODEL_NAME).min(1, MODEL_NAME).max(200, MODEL_NAME).nullable().default(null),
  language: language.nullable().default(null),
  task: z.enum(['transcribe', 'translate'], 'must be transcribe or translate').default('transcribe'),
  word_timestamps: boolean.default(true),
  diarize: boolean.default(false),
  num_speakers: speakers.optional(),
  min_speakers: speakers.optional(),
  max_speakers: speakers.optional(),
  prompt: z.string(TEXT).max(2_000, TEXT).optional(),
  hotwords: z.string(TEXT).max(2_000, TEXT).optional(),
  vad_method: z.enum(['silero', 'pyannote'], 'must be silero or pyannote').default('silero'),
  vad_onset: fraction.optional(),
  vad_offset: fraction.optional(),
  chunk_size: number(z.number(CHUNK_SECONDS).min(1, CHUNK_SECONDS).max(30, CHUNK_SECONDS)).default(30),
  channels: z.enum(['mix', 'separate'], 'must be mix or separate').default('mix'),
  deadline_seconds: number(z.number(DEADLINE).min(1, DEADLINE).max(2_592_000, DEADLINE)).optional(),
  allow_fallback: boolean.default(false),
  audio_track: number(z.int(TRACK).min(0, TRACK).max(MAX_TRACK, TRACK)).default(0),
  save_beside_source: list(z.array(z.enum(FORMAT_NAMES, FORMATS), FORMATS).min(1, FORMATS)).optional(),
  metadata: metadata.default({}),
});

/** Options that the contract names but that nothing implements yet: refused instead of ignored. */
export const NOT_YET = new Set(['webhook_url', 'webhook_events', 'expires_after_seconds']);

export type TranscriptionOptions = Omit<z.infer<typeof OPTIONS>, 'metadata' | 'vad_onset' | 'vad_offset'> & {
  /** How sure the voice detection must be that speech begins, and below what it takes it to have ended. */
  vad_onset: number;
  vad_offset: number;
};

/** WhisperX's own. */
const VAD_DEFAULT = { onset: 0.5, offset: 0.363 };

export interface ParsedOptions {
  options: TranscriptionOptions;
  metadata: Record<string, string>;
}

/**
 * Reads a request's options, from JSON or from form fields, and checks what can be known without a backend.
 * @throws {ServiceError} `invalid-option` or `not-supported`, naming the field
 */
export function parseOptions(fields: Readonly<Record<string, unknown>>): ParsedOptions {
  for (const field of Object.keys(fields)) {
    if (NOT_YET.has(field))
      throw notSupported(field, `The option ${field} is not supported yet. Leave it out.`);
  }
  const { metadata: pairs, vad_onset, vad_offset, ...given } = readOptions(OPTIONS, fields, OPTION_NAMES);
  // A default gives way to what was asked for.
  const options = {
    ...given,
    vad_onset: vad_onset ?? Math.max(VAD_DEFAULT.onset, vad_offset ?? 0),
    vad_offset: vad_offset ?? Math.min(VAD_DEFAULT.offset, vad_onset ?? 1),
  };
  checkTogether(options);
  return { options, metadata: pairs };
}

export const OPTION_NAMES = Object.keys(OPTIONS.shape);

/** As they are when nothing is asked for. */
export const DEFAULT_OPTIONS: Readonly<TranscriptionOptions> = parseOptions({}).options;

function checkTogether(options: TranscriptionOptions): void {
  if (options.deadline_seconds !== undefined && options.tier !== 'auto') {
    throw invalidOption('deadline_seconds', 'The option deadline_seconds needs tier=auto.');
  }
  if (options.allow_fallback && options.tier === 'standard') {
    throw invalidOption(
      'allow_fallback',
      'There is nothing below the tier standard: leave allow_fallback out.',
    );
  }
  const { num_speakers, min_speakers, max_speakers } = options;
  for (const field of ['num_speakers', 'min_speakers', 'max_speakers'] as const) {
    if (options[field] !== undefined && !options.diarize) {
      throw invalidOption(field, `The option ${field} needs diarize=true.`);
    }
  }
  if (min_speakers !== undefined && max_speakers !== undefined && min_speakers > max_speakers) {
    throw invalidOption(
      'min_speakers',
      `min_speakers (${min_speakers}) is more than max_speakers (${max_speakers}).`,
    );
  }
  if (num_speakers !== undefined && (min_speakers !== undefined || max_speakers !== undefined)) {
    throw invalidOption('num_speakers', 'Give either num_speakers, or min_speakers and max_speakers.');
  }
  if (options.channels === 'separate' && options.diarize) {
    throw invalidOption('channels', 'With channels=separate each channel is a speaker: leave diarize out.');
  }
  if (options.vad_offset > options.vad_onset) {
    throw invalidOption(
      'vad_offset',
      `vad_offset (${options.vad_offset}) is more than vad_onset (${options.vad_onset}).`,
    );
  }
}

function notSupported(field: string, detail: string): ServiceError {
  return new ServiceError('not-supported', detail, { extensions: { field } });
}
