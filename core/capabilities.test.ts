import type { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type Capabilities, checkCapabilities, readCapabilities, writeCapabilities } from './capabilities.ts';
import { parseOptions } from './options.ts';
import { SqliteRecords } from './records/sqlite-records.ts';
import { openDatabase } from './sqlite.ts';
import { voxtralCapabilities } from './voxtral-models.ts';

const CAPABILITIES: Capabilities = {
  default_model: 'tiny.en',
  models: [
    { name: 'tiny.en', is_multilingual: false, can_translate: false },
    { name: 'large-v3-turbo', is_multilingual: true, can_translate: false },
    { name: 'large-v3', is_multilingual: true, can_translate: true },
  ],
  alignment_languages: ['en'],
  can_diarize: false,
};

/** Nothing may be read. */
const nobodysRecords = {} as SqliteRecords;

const check = (fields: Record<string, unknown>, more: Partial<Capabilities> = {}) =>
  checkCapabilities(parseOptions(fields).options, { ...CAPABILITIES, ...more });

test.each<[string, Record<string, unknown>]>([
  ['tiny.en', {}],
  ['tiny.en', { language: 'en' }],
  ['large-v3-turbo', { model: 'large-v3-turbo', language: 'de' }],
  ['large-v3', { model: 'large-v3', task: 'translate' }],
])('chooses %s for %j', (model, fields) => {
  expect(check(fields)).toBe(model);
});

test.each<[string, string, Record<string, unknown>]>([
  ['model-not-available', 'model', { model: 'huge' }],
  ['language-not-available', 'language', { language: 'de' }],
  ['translation-not-available', 'task', { task: 'translate' }],
  ['translation-not-available', 'task', { task: 'translate', model: 'large-v3-turbo', language: 'de' }],
  ['diarization-not-configured', 'diarize', { diarize: true }],
])('refuses with %s at %s for %j', (slug, field, fields) => {
  expect(() => check(fields)).toThrow(expect.objectContaining({ slug, extensions: { field } }));
});

test('names the models there are when another is asked for', () => {
  expect(() => check({ model: 'huge' })).toThrow('tiny.en, large-v3-turbo, large-v3');
});

describe('what Mistral’s models can do', () => {
  const voxtral = voxtralCapabilities({});
  const checkVoxtral = (fields: Record<string, unknown>) =>
    checkCapabilities(parseOptions({ tier: 'standard', ...fields }).options, voxtral);

  test('is known before anybody has said it', async () => {
    expect(await readCapabilities(nobodysRecords, { name: 'voxtral', kind: 'voxtral' })).toEqual(voxtral);
  });

  test.each<[Record<string, unknown>]>([
    [{}],
    [{ hotwords: 'Zeroscribe' }],
    [{ hotwords: Array.from({ length: 300 }, (_, n) => `t${n % 100}`).join(', ') }],
    [{ diarize: true, word_timestamps: false }],
    [{ vad_onset: 0.5, chunk_size: 30 }],
  ])('%j', (fields) => {
    expect(checkVoxtral(fields)).toBe('voxtral-mini-2602');
  });

  test.each<[string, string, Record<string, unknown>]>([
    ['language-not-available', 'language', { language: 'de' }],
    ['translation-not-available', 'task', { task: 'translate' }],
    ['model-not-available', 'model', { model: 'large-v3' }],
    ['option-not-available', 'prompt', { prompt: 'A meeting' }],
    ['option-not-available', 'num_speakers', { diarize: true, num_speakers: 2, word_timestamps: false }],
    ['option-not-available', 'vad_onset', { vad_onset: 0.6 }],
    ['option-not-available', 'chunk_size', { chunk_size: 20 }],
    ['option-not-available', 'word_timestamps', { diarize: true }],
    ['option-not-available', 'word_timestamps', { model: 'voxtral-mini-transcribe-3' }],
    ['option-not-available', 'word_timestamps', { model: 'voxtral-small-transcribe-3' }],
    [
      'option-not-available',
      'hotwords',
      { hotwords: Array.from({ length: 101 }, (_, n) => `t${n}`).join(', ') },
    ],
  ])('%s at %s for %j', (slug, field, fields) => {
    expect(() => checkVoxtral(fields)).toThrow(expect.objectContaining({ slug, extensions: { field } }));
  });
});

test('lets a backend diarize that can', () => {
  expect(check({ diarize: true }, { can_diarize: true })).toBe('tiny.en');
});

describe('in the store', () => {
  let database: DatabaseSync;
  let records: SqliteRecords;

  beforeEach(() => {
    database = openDatabase(':memory:');
    records = new SqliteRecords(database);
  });
  afterEach(() => database.close());

  test('are unknown until the backend has said them', async () => {
    expect(await readCapabilities(records, { name: 'server', kind: 'server' })).toBeUndefined();
  });

  test('are what the backend said last, one entry per backend', async () => {
    await writeCapabilities(records, 'server', CAPABILITIES);
    await writeCapabilities(records, 'server', { ...CAPABILITIES, can_diarize: true });
    await writeCapabilities(records, 'other', CAPABILITIES);
    expect(await readCapabilities(records, { name: 'server', kind: 'server' })).toEqual({
      ...CAPABILITIES,
      can_diarize: true,
    });
    expect(await readCapabilities(records, { name: 'other', kind: 'server' })).toEqual(CAPABILITIES);
  });

  test('can be written by several instances at once', async () => {
    await Promise.all(Array.from({ length: 5 }, () => writeCapabilities(records, 'server', CAPABILITIES)));
    expect(await readCapabilities(records, { name: 'server', kind: 'server' })).toEqual(CAPABILITIES);
  });
});
