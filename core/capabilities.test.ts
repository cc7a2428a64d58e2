import type { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type Capabilities, checkCapabilities, readCapabilities, writeCapabilities } from './capabilities.ts';
import { parseOptions } from './options.ts';
import { SqliteRecords } from './records/sqlite-records.ts';
import { openDatabase } from './sqlite.ts';

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
    expect(await readCapabilities(records, 'server')).toBeUndefined();
  });

  test('are what the backend said last, one entry per backend', async () => {
    await writeCapabilities(records, 'server', CAPABILITIES);
    await writeCapabilities(records, 'server', { ...CAPABILITIES, can_diarize: true });
    await writeCapabilities(records, 'other', CAPABILITIES);
    expect(await readCapabilities(records, 'server')).toEqual({ ...CAPABILITIES, can_diarize: true });
    expect(await readCapabilities(records, 'other')).toEqual(CAPABILITIES);
  });

  test('can be written by several instances at once', async () => {
    await Promise.all(Array.from({ length: 5 }, () => writeCapabilities(records, 'server', CAPABILITIES)));
    expect(await readCapabilities(records, 'server')).toEqual(CAPABILITIES);
  });
});
