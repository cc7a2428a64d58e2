import { expect, test } from '@jest/globals';
import { ServiceError } from '../problem.ts';
import { parseFormatOptions } from './format-options.ts';

test('without a query the format is json', () => {
  expect(parseFormatOptions({})).toEqual({ format: 'json' });
});

test('numbers and flags are read from the text of a query', () => {
  const query = Object.assign(Object.create(null), {
    format: 'srt',
    max_line_width: '42',
    max_line_count: '2',
    highlight_words: 'true',
    speaker_labels: '0',
  });
  expect(parseFormatOptions(query)).toEqual({
    format: 'srt',
    max_line_width: 42,
    max_line_count: 2,
    highlight_words: true,
    speaker_labels: false,
  });
});

test('numbers and flags may also be given as such', () => {
  expect(parseFormatOptions({ max_line_width: 42, highlight_words: false })).toEqual({
    format: 'json',
    max_line_width: 42,
    highlight_words: false,
  });
});

test.each([
  ['format', { format: 'docx' }],
  ['format', { format: ['srt', 'vtt'] }],
  ['max_line_width', { max_line_width: '0' }],
  ['max_line_width', { max_line_width: '' }],
  ['max_line_width', { max_line_width: '4.5' }],
  ['max_line_width', { max_line_width: '1e2' }],
  ['max_line_width', { max_line_width: '0x10' }],
  ['max_line_count', { max_line_width: '42', max_line_count: '-1' }],
  ['max_line_count', { max_line_count: '2' }],
  ['highlight_words', { highlight_words: 'maybe' }],
  ['speaker_labels', { speaker_labels: { a: 'b' } }],
  ['colour', { colour: 'red' }],
])('a wrong %s is refused by name: %j', (field, query) => {
  const parse = () => parseFormatOptions(query);
  expect(parse).toThrow(ServiceError);
  expect(parse).toThrow(expect.objectContaining({ slug: 'invalid-option', extensions: { field } }));
  expect(parse).toThrow(new RegExp(`option ${field}`));
});
