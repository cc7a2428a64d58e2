import { expect, test } from '@jest/globals';
import { wholeWords } from './whole-words.ts';

const piece = (
  word: string,
  start: number | null = null,
  end: number | null = null,
  score: number | null = null,
) => ({
  word,
  start,
  end,
  score,
});

const texts = (text: string, pieces: string[] | null, language = 'en') =>
  wholeWords({ start: 0, end: 9, text, words: pieces?.map((word) => piece(word)) ?? null }, language).map(
    ({ word }) => word,
  );

test('pieces between which the text has no space are one word, as sure as its least sure piece', () => {
  const words = [piece(' well', 1, 1.5, 0.9), piece('-known', 1.5, 2, 0.4), piece(' song.', 2, 3, 0.8)];
  expect(wholeWords({ start: 1, end: 3, text: ' well-known song.', words }, 'en')).toEqual([
    piece('well-known', 1, 2, 0.4),
    piece('song.', 2, 3, 0.8),
  ]);
});

test('a word keeps the times that any of its pieces has', () => {
  const words = [piece('$'), piece('five', 1, 2, 0.7), piece('!')];
  expect(wholeWords({ start: 1, end: 3, text: '$five!', words }, 'en')).toEqual([piece('$five!', 1, 2, 0.7)]);
});

test('words that repeat stay apart', () => {
  expect(texts('No no no nono', ['No', 'no', 'no', 'nono'])).toEqual(['No', 'no', 'no', 'nono']);
});

test('words that do not stand in the text stay apart', () => {
  expect(texts('something else', ['not', 'this'])).toEqual(['not', 'this']);
});

test('in languages without spaces each character stays a word', () => {
  expect(texts('你好。', ['你', '好', '。'], 'zh')).toEqual(['你', '好', '。']);
});

test('a segment without words gets those of its text', () => {
  expect(texts(' Two words. ', null)).toEqual(['Two', 'words.']);
  expect(texts('Two words.', [' '])).toEqual(['Two', 'words.']);
  expect(texts('こん にちは', [], 'ja')).toEqual(['こ', 'ん', 'に', 'ち', 'は']);
});
