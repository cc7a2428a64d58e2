import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseOptions } from './options.ts';
import { ServiceError } from './problem.ts';

const DEFAULTS = {
  tier: 'premium',
  model: null,
  language: null,
  task: 'transcribe',
  word_timestamps: true,
  diarize: false,
  vad_method: 'silero',
  vad_onset: 0.5,
  vad_offset: 0.363,
  chunk_size: 30,
  channels: 'mix',
  audio_track: 0,
  allow_fallback: false,
};

test('has a default for everything', () => {
  expect(parseOptions({})).toEqual({ options: DEFAULTS, metadata: {} });
});

describe('accepts', () => {
  test.each<[Record<string, unknown>, Record<string, unknown>]>([
    [{ language: 'DE' }, { language: 'de' }],
    [{ language: 'yue' }, { language: 'yue' }],
    [{ language: null, model: null }, {}],
    [{ word_timestamps: 'false' }, { word_timestamps: false }],
    [{ word_timestamps: '0' }, { word_timestamps: false }],
    [
      { diarize: '1', num_speakers: '2' },
      { diarize: true, num_speakers: 2 },
    ],
    [
      { diarize: true, min_speakers: 2, max_speakers: 2 },
      { diarize: true, min_speakers: 2, max_speakers: 2 },
    ],
    [{ task: 'translate' }, { task: 'translate' }],
    [{ model: 'any model at all' }, { model: 'any model at all' }],
    [
      { prompt: 'Zeroscribe', hotwords: 'WhisperX' },
      { prompt: 'Zeroscribe', hotwords: 'WhisperX' },
    ],
    [{ prompt: '' }, { prompt: '' }],
    [
      { vad_onset: '0.4', vad_offset: '0.4', chunk_size: '12.5' },
      { vad_onset: 0.4, vad_offset: 0.4, chunk_size: 12.5 },
    ],
    [{ vad_onset: '0.3' }, { vad_onset: 0.3, vad_offset: 0.3 }],
    [{ vad_onset: '.4' }, { vad_onset: 0.4, vad_offset: 0.363 }],
    [{ vad_offset: '0.6' }, { vad_onset: 0.6, vad_offset: 0.6 }],
    [
      { channels: 'separate', audio_track: '2' },
      { channels: 'separate', audio_track: 2 },
    ],
    [{ save_beside_source: 'srt, json' }, { save_beside_source: ['srt', 'json'] }],
    [{ save_beside_source: ['vtt'] }, { save_beside_source: ['vtt'] }],
    [{ tier: 'standard' }, { tier: 'standard' }],
    [
      { tier: 'auto', deadline_seconds: '3600' },
      { tier: 'auto', deadline_seconds: 3_600 },
    ],
    [{ allow_fallback: 'true' }, { allow_fallback: true }],
  ])('%j', (fields, expected) => {
    expect(parseOptions(fields).options).toEqual({ ...DEFAULTS, ...expected });
  });

  test.each([{ metadata: { order: '17' } }, { metadata: '{"order":"17"}' }])('%j', (fields) => {
    const { options, metadata } = parseOptions(fields);
    expect(metadata).toEqual({ order: '17' });
    expect(options).toEqual(DEFAULTS);
  });
});

describe('refuses as invalid-option, naming the field,', () => {
  test.each<[string, Record<string, unknown>]>([
    ['languge', { languge: 'en' }],
    ['language', { language: 'klingon' }],
    ['language', { language: '' }],
    ['language', { language: 7 }],
    ['task', { task: 'summarize' }],
    ['tier', { tier: 'gold' }],
    ['model', { model: '' }],
    ['word_timestamps', { word_timestamps: 'yes' }],
    ['word_timestamps', { word_timestamps: '' }],
    ['num_speakers', { diarize: true, num_speakers: 0 }],
    ['num_speakers', { diarize: true, num_speakers: '1.5' }],
    ['num_speakers', { diarize: true, num_speakers: '' }],
    ['num_speakers', { diarize: true, num_speakers: 'NaN' }],
    ['num_speakers', { num_speakers: 2 }],
    ['max_speakers', { max_speakers: 2 }],
    ['max_speakers', { diarize: true, max_speakers: 51 }],
    ['min_speakers', { diarize: true, min_speakers: 3, max_speakers: 2 }],
    ['num_speakers', { diarize: true, num_speakers: 2, min_speakers: 2 }],
    ['vad_onset', { vad_onset: 1 }],
    ['vad_onset', { vad_onset: 'Infinity' }],
    ['vad_offset', { vad_onset: 0.3, vad_offset: 0.4 }],
    ['vad_method', { vad_method: 'auditok' }],
    ['chunk_size', { chunk_size: 31 }],
    ['chunk_size', { chunk_size: '0x10' }],
    ['chunk_size', { chunk_size: '1e1' }],
    ['chunk_size', { chunk_size: ' 10' }],
    ['deadline_seconds', { deadline_seconds: 60 }],
    ['deadline_seconds', { tier: 'auto', deadline_seconds: 0 }],
    ['allow_fallback', { tier: 'standard', allow_fallback: true }],
    ['channels', { channels: 'left' }],
    ['channels', { channels: 'separate', diarize: true }],
    ['audio_track', { audio_track: -1 }],
    ['audio_track', { audio_track: 'eng' }],
    ['audio_track', { audio_track: 100 }],
    ['save_beside_source', { save_beside_source: '' }],
    ['save_beside_source', { save_beside_source: 'srt,docx' }],
    ['save_beside_source', { save_beside_source: [] }],
    ['prompt', { prompt: 'x'.repeat(2_001) }],
    ['metadata', { metadata: 'not json' }],
    ['metadata', { metadata: { number: 1 } }],
    ['metadata', { metadata: '{"__proto__":"x"}' }],
    ['metadata', { metadata: { ['k'.repeat(65)]: 'v' } }],
    ['metadata', { metadata: { k: 'v'.repeat(513) } }],
    ['metadata', { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'v'])) }],
    ['__proto__', JSON.parse('{"__proto__": "x"}')],
  ])('%s in %j', (field, fields) => {
    expect(refusal(fields)).toMatchObject({ slug: 'invalid-option', extensions: { field } });
  });
});

describe('refuses as not-supported, naming the field,', () => {
  test.each<[string, Record<string, unknown>]>([
    ['webhook_url', { webhook_url: 'https://example.com' }],
    ['webhook_events', { webhook_events: [] }],
    ['expires_after_seconds', { expires_after_seconds: 60 }],
  ])('%s in %j', (field, fields) => {
    expect(refusal(fields)).toMatchObject({ slug: 'not-supported', extensions: { field } });
  });
});

test('names an unknown option, however long, in a message of bounded length', () => {
  const error = refusal({ ['x'.repeat(100_000)]: 1 });
  expect(error?.message.length).toBeLessThan(1_000);
  expect(JSON.stringify(error?.extensions).length).toBeLessThan(1_000);
});

test.each<[Record<string, unknown>, string]>([
  [
    { metadata: '{"a":1}' },
    'The option metadata is not valid: it must be an object of up to 16 texts of at most 512 characters, with names of at most 64.',
  ],
  [{ model: ['a', 'b'] }, 'The option model is not valid: it must be a name of 1 to 200 characters.'],
  [{ prompt: 7 }, 'The option prompt is not valid: it must be text of up to 2000 characters.'],
  [{ vad_onset: '1.5' }, 'The option vad_onset is not valid: it must be a number between 0 and 1.'],
])('says in our own words what is wrong with %j', (fields, message) => {
  expect(refusal(fields)?.message).toBe(message);
});

test('answers whatever is sent with options or a ServiceError in our own words, nothing else', () => {
  const names = [
    ...Object.keys(DEFAULTS),
    'metadata',
    'num_speakers',
    'min_speakers',
    'max_speakers',
    'prompt',
    'hotwords',
    'channels',
  ];
  fc.assert(
    fc.property(fc.dictionary(fc.oneof(fc.constantFrom(...names), fc.string()), fc.anything()), (fields) => {
      expect(refusal(fields)?.message ?? '').not.toMatch(/Invalid|Too (big|small)|: expected/);
    }),
    { numRuns: 1_000 },
  );
});

/** What `parseOptions` threw, which is always a ServiceError; undefined when it accepted. */
function refusal(fields: Record<string, unknown>): ServiceError | undefined {
  try {
    parseOptions(fields);
    return undefined;
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
}
