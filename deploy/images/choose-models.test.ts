import { expect, test } from '@jest/globals';
import { WHISPER_LANGUAGES } from '../../core/languages.ts';
import {
  ALIGNMENT_MODELS,
  DIARIZATION_MODEL,
  type ModelSource,
  WHISPER_MODELS,
} from '../../setup/model-table.mjs';
import { chooseModels } from './choose-models.mjs';

const choose = (wanted: Partial<Parameters<typeof chooseModels>[0]> = {}) =>
  chooseModels({
    whisperModels: '',
    alignmentLanguages: '',
    diarization: 'if-token',
    hasToken: false,
    ...wanted,
  });
const paths = (chosen: ReturnType<typeof chooseModels>) => chosen.map(({ path }) => path);

const everything: [string, ModelSource][] = [
  ...Object.entries(WHISPER_MODELS),
  ...Object.entries(ALIGNMENT_MODELS),
  ['diarization', DIARIZATION_MODEL],
];

test.each(everything)('%s has a revision, a licence, and sums of files that it has', (_, source) => {
  expect(source.revision).toMatch(/^[0-9a-f]{40}$/);
  expect(source.repository).toMatch(/^[\w.-]+\/[\w.-]+$/);
  expect(source.license).not.toBe('');
  expect(source.sizeBytes).toBeGreaterThan(1_000_000);
  for (const [file, sha256] of Object.entries(source.sha256)) {
    expect(source.files).toContain(file);
    expect(sha256).toMatch(/^[0-9a-f]{64}$/);
  }
});

test('no two models are the same, and every alignment model is of a language that Whisper knows', () => {
  const revisions = everything.map(([, { revision }]) => revision);
  expect(new Set(revisions).size).toBe(revisions.length);
  for (const language of Object.keys(ALIGNMENT_MODELS)) expect(WHISPER_LANGUAGES.has(language)).toBe(true);
});

test('each model has the place where gpu-service looks for it', () => {
  const chosen = choose({
    whisperModels: 'large-v3-turbo  small',
    alignmentLanguages: 'de en',
    hasToken: true,
  });
  expect(paths(chosen)).toEqual([
    ...['large-v3-turbo', 'small', 'alignment/de', 'alignment/en', 'diarization'],
  ]);
  expect(chosen[0]?.source).toBe(WHISPER_MODELS['large-v3-turbo']);
});

test('nothing is fetched for what comes with the packages, nor for empty arguments, and nothing twice', () => {
  expect(choose()).toEqual([]);
  expect(choose({ whisperModels: 'tiny.en' })).toEqual([]);
  expect(paths(choose({ whisperModels: 'small small' }))).toEqual(['small']);
});

test('a name that is not in the table is answered with those that are', () => {
  expect(() => choose({ whisperModels: 'large-v9' })).toThrow(
    /WHISPER_MODELS names large-v9; there is: tiny, small.*tiny\.en is there in any case/,
  );
  expect(() => choose({ alignmentLanguages: 'xx' })).toThrow(
    /ALIGNMENT_LANGUAGES names xx; there is: de, en/,
  );
  expect(() => choose({ whisperModels: 'constructor' })).toThrow(/names constructor/);
});

test('speakers are told apart where there is a token, and a build that must is refused without one', () => {
  expect(paths(choose({ hasToken: true }))).toEqual(['diarization']);
  expect(paths(choose({ hasToken: true, diarization: 'yes' }))).toEqual(['diarization']);
  expect(() => choose({ diarization: 'yes' })).toThrow(/DIARIZATION=yes needs the build secret hf_token/);
  expect(() => choose({ diarization: 'no' })).toThrow(/DIARIZATION is no\. Set it to yes or if-token/);
});

test('ten gigabytes of models are too many', () => {
  expect(() =>
    choose({ whisperModels: 'large-v2 large-v3 large-v3-turbo medium small distil-large-v3' }),
  ).toThrow(/The chosen models have 11\.3 GB, and an image should have less than 10 GB/);
});
