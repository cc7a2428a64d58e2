import type { Capabilities } from './capabilities.ts';
import type { PriceName } from './costs/prices.ts';

interface VoxtralModel {
  /** The longest recording that one request takes. */
  maxSeconds: number;
  price: PriceName;
  wordTimes: Capabilities['models'][number]['word_times'];
}

/**
 * Of Voxtral 3, whose context of 65,536 tokens holds the audio and the text: an hour is 45,000 tokens of audio, if they
 * are the 80 ms that those of its predecessors were, and speech makes some 12,000 of text. Mistral names no duration.
 */
const VOXTRAL_3 = { maxSeconds: 3_600, wordTimes: 'never' } as const;

/**
 * What Mistral's API transcribes with (https://docs.mistral.ai/studio/audio/migrate-from-voxtral-2, and the page on
 * limits beside it). Asked for times, none of them may be told the language: the answer is then a success with an empty
 * text. Word times are asked for instead of those of segments, and speakers need segments.
 */
export const VOXTRAL_MODELS = {
  'voxtral-mini-2602': { maxSeconds: 3 * 3_600, price: 'voxtral-mini', wordTimes: 'without-speakers' },
  'voxtral-mini-transcribe-3': { ...VOXTRAL_3, price: 'voxtral-mini-3' },
  'voxtral-small-transcribe-3': { ...VOXTRAL_3, price: 'voxtral-small-3' },
} as const satisfies Record<string, VoxtralModel>;

export type VoxtralModelName = keyof typeof VOXTRAL_MODELS;
export const VOXTRAL_MODEL_NAMES = Object.keys(VOXTRAL_MODELS) as [VoxtralModelName, ...VoxtralModelName[]];
/** Terms to listen for, in one request. */
export const MAX_HOTWORDS = 100;
export const DEFAULT_VOXTRAL_MODEL: VoxtralModelName = 'voxtral-mini-2602';

/** The same at every such backend, but for the model that does the jobs that name none. */
export function voxtralCapabilities({
  model = DEFAULT_VOXTRAL_MODEL,
}: {
  model?: VoxtralModelName | undefined;
}): Capabilities {
  return {
    default_model: model,
    models: VOXTRAL_MODEL_NAMES.map((name) => ({
      name,
      is_multilingual: true,
      can_translate: false,
      takes_language: false,
      word_times: VOXTRAL_MODELS[name].wordTimes,
      max_hotwords: MAX_HOTWORDS,
      lacks: [
        'prompt',
        'num_speakers',
        'min_speakers',
        'max_speakers',
        'vad_method',
        'vad_onset',
        'vad_offset',
        'chunk_size',
      ],
    })),
    alignment_languages: [],
    can_diarize: true,
  };
}
