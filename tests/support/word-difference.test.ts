import { expect, test } from '@jest/globals';
import { wordDifference } from './word-difference.ts';

test.each([
  ["It isn't so.", "it isn't so", 0, []],
  ['one two three four', 'one too three four', 1 / 4, ['two → too']],
  ['one two three four', 'one three four', 1 / 4, ['two → –']],
  ['one two three four', 'zero one two three four', 1 / 4, ['– → zero']],
  ['one two three four', 'three four one', 3 / 4, ['one → –', 'two → –', '– → one']],
  ['one two', '', 1, ['one → –', 'two → –']],
  ['', 'one two', 2, ['– → one', '– → two']],
])('%j against %j', (expected, actual, rate, changes) => {
  expect(wordDifference(expected, actual)).toEqual({ rate, changes });
});
