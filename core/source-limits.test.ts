import { expect, test } from '@jest/globals';
import { readSourceLimits } from './source-limits.ts';

test('nothing is open unless the operator opens it', () => {
  expect(readSourceLimits({})).toEqual({ maxUploadBytes: 20 * 2 ** 30, linkNetworks: [], gcsSources: [] });
});

test('buckets of others may be sources, the own one may not', () => {
  const env = { GCS_BUCKET: 'service', GCS_SOURCES: 'gs://talks,gs://calls/2026/' };
  expect(readSourceLimits(env).gcsSources).toEqual([
    { bucket: 'talks', prefix: '' },
    { bucket: 'calls', prefix: '2026/' },
  ]);
  expect(() => readSourceLimits({ ...env, GCS_SOURCES: 'gs://talks,gs://service/media/' })).toThrow(
    'GCS_SOURCES: must not be in GCS_BUCKET',
  );
});
