import { SetupFailure } from '../../setup/failure.mjs';
import { ALIGNMENT_MODELS, DIARIZATION_MODEL, WHISPER_MODELS } from '../../setup/model-table.mjs';

/** @typedef {import('../../setup/model-table.mjs').ModelSource} ModelSource */

/** Comes with the Python packages. */
const PACKAGED_MODEL = 'tiny.en';
/** Beyond this, starting from a mounted bucket is quicker, says Cloud Run. */
const MOST_BYTES = 10e9;

/**
 * What the image of these build arguments fetches: a path below the folder of models for each.
 * @param {{ whisperModels: string, alignmentLanguages: string, diarization: string, hasToken: boolean }} wanted
 * @returns {{ path: string, source: ModelSource }[]}
 * @throws {SetupFailure}
 */
export function chooseModels({ whisperModels, alignmentLanguages, diarization, hasToken }) {
  if (!['if-token', 'yes'].includes(diarization))
    throw new SetupFailure(
      `The build argument DIARIZATION is ${diarization || 'empty'}. Set it to yes or if-token.`,
    );
  if (diarization === 'yes' && !hasToken)
    throw new SetupFailure(
      'DIARIZATION=yes needs the build secret hf_token: the token of a Hugging Face account that has accepted the conditions of the model.',
    );
  const whisper = wordsOf(whisperModels).filter((name) => name !== PACKAGED_MODEL);
  const chosen = [
    ...whisper.map((name) => ({
      path: name,
      source: named('WHISPER_MODELS', WHISPER_MODELS, name, ` ${PACKAGED_MODEL} is there in any case.`),
    })),
    ...wordsOf(alignmentLanguages).map((language) => ({
      path: `alignment/${language}`,
      source: named('ALIGNMENT_LANGUAGES', ALIGNMENT_MODELS, language),
    })),
    ...(hasToken ? [{ path: 'diarization', source: DIARIZATION_MODEL }] : []),
  ];
  const bytes = chosen.reduce((sum, { source }) => sum + source.sizeBytes, 0);
  if (bytes > MOST_BYTES) {
    throw new SetupFailure(
      `The chosen models have ${(bytes / 1e9).toFixed(1)} GB, and an image should have less than ${MOST_BYTES / 1e9} GB of them. Leave some out of WHISPER_MODELS or ALIGNMENT_LANGUAGES.`,
    );
  }
  return chosen;
}

/** @returns {string[]} */
function wordsOf(/** @type {string} */ text) {
  return [...new Set(text.split(/\s+/).filter((word) => word !== ''))];
}

/**
 * @param {string} argument
 * @param {Record<string, ModelSource>} table
 * @param {string} name
 */
function named(argument, table, name, more = '') {
  const source = Object.hasOwn(table, name) ? table[name] : undefined;
  if (source === undefined) {
    throw new SetupFailure(
      `The build argument ${argument} names ${name}; there is: ${Object.keys(table).join(', ')}.${more}`,
    );
  }
  return source;
}
