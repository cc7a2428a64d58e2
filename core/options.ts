import { z } from 'zod';
import { WHISPER_LANGUAGES } from './languages.ts';
import { ServiceError } from './problem.ts';

/** What a user may ask for. Forms send everything as text, so numbers and booleans are read from text too. */
const boolean = z.preprocess((value) => {
  if (value === 'true' || value === '1') return true;
  if (value === 'false' || value === '0') return false;
  return value;
}, z.boolean('must be true or false'));

const number = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => (typeof value === 'string' && value.trim() !== '' ? Number(value) : value), schema);

const speakers = number(
  z.int('must be a whole number').min(1, 'must be at least 1').max(50, 'must be at most 50'),
);

const metadata = z.preprocess(
  (value) => {
    if (typeof value !== 'string') return value;
    try {
      return JSON.parse(value);
    } catch {
      return value;
    }
  },
  z
    .record(z.string().max(64), z.string().max(512), 'must be an object of strings')
    .refine((pairs) => Object.keys(pairs).length <= 16, 'must have at most 16 pairs'),
);

const language = z
  .string('must be a language code such as en')
  .transform((code) => code.toLowerCase())
  .refine(
    (code) => WHISPER_LANGUAGES.has(code),
    'must be an ISO 639-1 code that Whisper knows, such as en or de',
  );

const OPTIONS = z.strictObject({
  tier: z.enum(['premium', 'standard', 'auto'], 'must be premium, standard or auto').default('premium'),
  model: z.string().min(1, 'must name a model').max(200).nullable().default(null),
  language: language.nullable().default(null),
  task: z.enum(['transcribe', 'translate'], 'must be transcribe or translate').default('transcribe'),
  word_timestamps: boolean.default(true),
  diarize: boolean.default(false),
  num_speakers: speakers.optional(),
  min_speakers: speakers.optional(),
  max_speakers: speakers.optional(),
  prompt: z.string().max(2_000, 'must be at most 2000 characters').optional(),
  hotwords: z.string().max(2_000, 'must be at most 2000 characters').optional(),
  vad_method: z.enum(['pyannote', 'silero'], 'must be pyannote or silero').default('pyannote'),
  vad_onset: number(z.number('must be a number').gt(0, 'must be above 0').lt(1, 'must be below 1')).default(
    0.5,
  ),
  vad_offset: number(z.number('must be a number').gt(0, 'must be above 0').lt(1, 'must be below 1')).default(
    0.363,
  ),
  chunk_size: number(
    z.number('must be a number').min(1, 'must be at least 1').max(30, 'must be at most 30'),
  ).default(30),
  metadata: metadata.default({}),
});

/** Options that the contract names but that nothing implements yet: refused instead of ignored. */
const NOT_YET = new Set([
  'channels',
  'audio_track',
  'deadline_seconds',
  'allow_fallback',
  'webhook_url',
  'webhook_events',
  'expires_after_seconds',
]);

export type TranscriptionOptions = Omit<z.infer<typeof OPTIONS>, 'metadata'>;

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
  const result = OPTIONS.safeParse(fields);
  if (!result.success) {
    const issue = result.error.issues[0];
    if (issue?.code === 'unrecognized_keys') {
      const field = issue.keys[0] ?? 'unknown';
      throw invalid(
        field,
        `There is no option ${field.slice(0, 100)}. Options are ${OPTION_NAMES.join(', ')}.`,
      );
    }
    const field = String(issue?.path[0] ?? 'options');
    throw invalid(field, `The option ${field} is not valid: ${issue?.message ?? 'check its value'}.`);
  }
  const { metadata: pairs, ...options } = result.data;
  checkTogether(options);
  return { options, metadata: pairs };
}

const OPTION_NAMES = Object.keys(OPTIONS.shape);

function checkTogether(options: TranscriptionOptions): void {
  if (options.tier !== 'premium') {
    throw notSupported('tier', `The tier ${options.tier} is not supported yet. Use premium.`);
  }
  if (options.vad_method === 'silero') {
    throw notSupported('vad_method', 'The voice detection silero is not supported yet. Use pyannote.');
  }
  const { num_speakers, min_speakers, max_speakers } = options;
  for (const field of ['num_speakers', 'min_speakers', 'max_speakers'] as const) {
    if (options[field] !== undefined && !options.diarize) {
      throw invalid(field, `The option ${field} needs diarize=true.`);
    }
  }
  if (min_speakers !== undefined && max_speakers !== undefined && min_speakers > max_speakers) {
    throw invalid(
      'min_speakers',
      `min_speakers (${min_speakers}) is more than max_speakers (${max_speakers}).`,
    );
  }
  if (num_speakers !== undefined && (min_speakers !== undefined || max_speakers !== undefined)) {
    throw invalid('num_speakers', 'Give either num_speakers, or min_speakers and max_speakers.');
  }
  if (options.vad_offset > options.vad_onset) {
    throw invalid(
      'vad_offset',
      `vad_offset (${options.vad_offset}) is more than vad_onset (${options.vad_onset}).`,
    );
  }
}

function invalid(field: string, detail: string): ServiceError {
  return new ServiceError('invalid-option', detail, { extensions: { field: field.slice(0, 100) } });
}

function notSupported(field: string, detail: string): ServiceError {
  return new ServiceError('not-supported', detail, { extensions: { field } });
}
