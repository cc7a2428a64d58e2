import { z } from 'zod';
import { type Backend, isVoxtral } from './backends.ts';
import { hotwordTerms } from './hotwords.ts';
import { capabilitiesKey } from './objects.ts';
import { DEFAULT_OPTIONS, type TranscriptionOptions } from './options.ts';
import { ServiceError } from './problem.ts';
import { RecordConflict, type Records } from './records/records.ts';
import { voxtralCapabilities } from './voxtral-models.ts';

/** Options that not every engine has. */
const OPTIONAL = [
  'prompt',
  'hotwords',
  'num_speakers',
  'min_speakers',
  'max_speakers',
  'vad_method',
  'vad_onset',
  'vad_offset',
  'chunk_size',
] as const;

/** What a backend's models can do. Written by the backend, read at submission, so that nothing impossible is queued. */
export const Capabilities = z.object({
  default_model: z.string(),
  models: z.array(
    z.object({
      name: z.string(),
      /** Knows languages other than English. */
      is_multilingual: z.boolean(),
      can_translate: z.boolean(),
      /** False: no language can be named to it, it finds out by itself which it is. */
      takes_language: z.boolean().optional(),
      /** Absent: always. */
      word_times: z.enum(['without-speakers', 'never']).optional(),
      lacks: z.array(z.enum(OPTIONAL)).optional(),
      /** How many terms it listens for. Absent: they are text like any other. */
      max_hotwords: z.int().optional(),
    }),
  ),
  /** Languages with an alignment model; the others get word times from cross-attention. */
  alignment_languages: z.array(z.string()),
  can_diarize: z.boolean(),
});
export type Capabilities = z.infer<typeof Capabilities>;

/**
 * Where a backend has not said yet what it can, the job is accepted and checked again by its worker. What Mistral's
 * models can is known.
 */
export async function readCapabilities(
  records: Records,
  backend: Pick<Backend, 'name' | 'kind'>,
): Promise<Capabilities | undefined> {
  if (isVoxtral(backend)) return voxtralCapabilities(backend);
  const stored = await records.read(capabilitiesKey(backend.name));
  return stored === undefined ? undefined : Capabilities.parse(stored.value);
}

export async function writeCapabilities(
  records: Records,
  backend: string,
  capabilities: Capabilities,
): Promise<void> {
  const key = capabilitiesKey(backend);
  for (;;) {
    try {
      const stored = await records.read(key);
      if (stored === undefined) await records.create(key, capabilities);
      else await records.replace(key, capabilities, stored.generation);
      return;
    } catch (error) {
      // Another instance of the same backend said the same a moment ago.
      if (!(error instanceof RecordConflict)) throw error;
    }
  }
}

/**
 * The model that will do the job.
 * @throws {ServiceError} naming the option that the backend cannot serve, and what it can
 */
export function checkCapabilities(options: TranscriptionOptions, capabilities: Capabilities): string {
  const name = options.model ?? capabilities.default_model;
  const model = capabilities.models.find((candidate) => candidate.name === name);
  if (model === undefined) {
    const names = capabilities.models.map((candidate) => candidate.name).join(', ');
    throw refuse(
      'model-not-available',
      'model',
      `There is no model ${name.slice(0, 100)} here. Available: ${names}.`,
    );
  }
  if (!model.is_multilingual && options.language !== null && options.language !== 'en') {
    throw refuse(
      'language-not-available',
      'language',
      `The model ${name} knows English only. Choose a multilingual model, or leave language out.`,
    );
  }
  if (options.task === 'translate' && !model.can_translate) {
    throw refuse(
      'translation-not-available',
      'task',
      `The model ${name} cannot translate. Choose a multilingual model other than turbo, such as small or large-v3.`,
    );
  }
  if (options.language !== null && model.takes_language === false) {
    throw refuse(
      'language-not-available',
      'language',
      `The model ${name} finds the language out by itself and cannot be told. Leave language out, or choose the tier premium.`,
    );
  }
  const lacked = model.lacks?.find((option) => options[option] !== DEFAULT_OPTIONS[option]);
  if (lacked !== undefined) {
    throw refuse(
      'option-not-available',
      lacked,
      `The model ${name} has no ${lacked}. Leave it out, or choose the tier premium.`,
    );
  }
  const terms = hotwordTerms(options.hotwords ?? '').length;
  if (model.max_hotwords !== undefined && terms > model.max_hotwords) {
    throw refuse(
      'option-not-available',
      'hotwords',
      `The model ${name} listens for ${model.max_hotwords} terms at most, and these are ${terms}. Name fewer, or choose the tier premium.`,
    );
  }
  if (options.word_timestamps && model.word_times !== undefined) {
    if (model.word_times === 'never') {
      throw refuse(
        'option-not-available',
        'word_timestamps',
        `The model ${name} gives no word times. Ask for word_timestamps=false, or choose the tier premium.`,
      );
    }
    if (options.diarize) {
      throw refuse(
        'option-not-available',
        'word_timestamps',
        `The model ${name} gives either word times or speakers. Ask for word_timestamps=false, leave diarize out, or choose the tier premium.`,
      );
    }
  }
  if (options.diarize && !capabilities.can_diarize) {
    throw refuse(
      'diarization-not-configured',
      'diarize',
      'This service has no diarization model. Its operator sets DIARIZATION_MODEL; without it, leave diarize out.',
    );
  }
  return name;
}

/** The same without an exception: the model, or why there is none. */
export function refusalOf(
  options: TranscriptionOptions,
  capabilities: Capabilities,
): { model: string; refusal?: undefined } | { model?: undefined; refusal: ServiceError } {
  try {
    return { model: checkCapabilities(options, capabilities) };
  } catch (error) {
    if (error instanceof ServiceError) return { refusal: error };
    throw error;
  }
}

function refuse(
  slug:
    | 'model-not-available'
    | 'language-not-available'
    | 'translation-not-available'
    | 'option-not-available'
    | 'diarization-not-configured',
  field: string,
  detail: string,
): ServiceError {
  return new ServiceError(slug, detail, { extensions: { field } });
}
