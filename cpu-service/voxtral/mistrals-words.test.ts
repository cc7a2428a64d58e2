import { expect, test } from '@jest/globals';
import { mistralsWords } from './mistrals-words.ts';

test.each<[string, unknown]>([
  ['Invalid model: x', { object: 'error', message: 'Invalid model: x', code: '1500' }],
  ['Unauthorized', { detail: 'Unauthorized' }],
  [
    'language: Field required; model: Bad',
    {
      detail: [
        { loc: ['body', 'language'], msg: 'Field required', input: 'https://secret' },
        { loc: ['body', 'model'], msg: 'Bad' },
      ],
    },
  ],
  ['a: b', { message: { detail: [{ loc: ['a'], msg: 'b' }] } }],
  [
    'Failed to fetch [link] now',
    { message: 'Failed to fetch https://storage.example/b/o?X-Goog-Signature=1 now' },
  ],
  [
    "Pool(host='storage.example'): Max retries exceeded with url: [link] (timeout)",
    {
      message:
        "Pool(host='storage.example'): Max retries exceeded with url: /b/o.flac?X-Goog-Algorithm=A&X-Goog-Credential=sa%40p&X-Goog-Signature=1 (timeout)",
    },
  ],
  ['key [key] is bad', { message: 'key sk-1234 is bad' }],
  ['two lines', { message: 'two\n\u202elines' }],
  ['', { anything: 1 }],
  ['', null],
])('%p', (words, body) => {
  expect(mistralsWords(JSON.stringify(body), 'sk-1234')).toBe(words);
});

test('a page of a proxy says nothing, and long words are cut', () => {
  expect(mistralsWords('<html>502</html>', 'k')).toBe('');
  expect(mistralsWords(JSON.stringify({ message: 'word '.repeat(200) }), 'sk')).toHaveLength(301);
});
