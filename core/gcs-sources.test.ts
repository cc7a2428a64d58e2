import { describe, expect, test } from '@jest/globals';
import { checkGcsSource, parseGcsSources } from './gcs-sources.ts';

const SOURCES = parseGcsSources('gs://open, gs://half/dir,gs://tree/a/b/,gs://one/file.mp3');
const REFUSED = expect.objectContaining({ slug: 'gcs-source-refused' });

describe('a gs:// address', () => {
  test.each([
    ['gs://open/a.mp3', 'open', 'a.mp3'],
    ['gs://open/deep/folder/ä b?c#d%2e.mp3', 'open', 'deep/folder/ä b?c#d%2e.mp3'],
    ['gs://half/dir/a', 'half', 'dir/a'],
    ['gs://half/dir', 'half', 'dir'],
    ['gs://tree/a/b/c/d', 'tree', 'a/b/c/d'],
    ['gs://one/file.mp3', 'one', 'file.mp3'],
  ])('%s is allowed', (text, bucket, key) => {
    expect(checkGcsSource(text, SOURCES)).toEqual({ bucket, key });
  });

  test.each([
    'gs://other/a',
    'gs://open2/a',
    'gs://half/directory2/a',
    'gs://half/dir2',
    'gs://half/a',
    'gs://half/Dir/a',
    'gs://tree/a/b',
    'gs://tree/a/bc',
    'gs://one/file.mp3x',
    'gs://one/other.mp3',
    'gs://half/dir/../secret',
    'gs://half/dir/./a',
    'gs://open/..',
    'gs://open/.',
    'gs://open/',
    'gs://open',
    'gs://',
    'gs:///a',
    'gs://open/a\nb',
    'gs://open/a\0',
    'gs://open/\ud800',
    `gs://open/${'a'.repeat(1_025)}`,
    'gs://OPEN/a',
    'gs://open@evil/a',
    'gs://open:443/a',
    'gs://open%2Fa/b',
    'gs://../open/a',
    'gs:/open/a',
    'GS://open/a',
    ' gs://open/a',
    'https://storage.googleapis.com/open/a',
    'open/a',
    '',
  ])('%j is refused', (text) => {
    expect(() => checkGcsSource(text, SOURCES)).toThrow(REFUSED);
  });

  test('is refused where none is allowed', () => {
    expect(() => checkGcsSource('gs://open/a', [])).toThrow(REFUSED);
  });
});

test.each([
  '',
  'open',
  'gs://',
  'gs://a',
  'gs://open/../x',
  'gs://open,',
  's3://open',
  'gs://open/*',
  'gs://open//',
])('the setting %j is not understood', (text) => {
  expect(() => parseGcsSources(text)).toThrow('must be addresses such as');
});
