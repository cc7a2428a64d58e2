import { Readable } from 'node:stream';
import { describe, expect, test } from '@jest/globals';
import { LineTooLong, readLines } from './read-lines.ts';

const from = (...chunks: string[]) => Readable.from(chunks.map((chunk) => Buffer.from(chunk)));

async function collect(lines: AsyncIterable<string>): Promise<string[]> {
  const collected: string[] = [];
  for await (const line of lines) collected.push(line);
  return collected;
}

describe('readLines', () => {
  test('joins what the pipe has cut, also within a character', async () => {
    const euro = Buffer.from('€\n');
    const stream = Readable.from([
      Buffer.from('on'),
      Buffer.from('e\ntwo\n\n'),
      euro.subarray(0, 1),
      euro.subarray(1),
    ]);
    expect(await collect(readLines(stream, { maxBytes: 10, as: 'messages' }))).toEqual([
      ...['one', 'two', '', '€'],
    ]);
  });

  test('as messages: drops a line that the end has cut off', async () => {
    expect(await collect(readLines(from('{}\n{"ty'), { maxBytes: 10, as: 'messages' }))).toEqual(['{}']);
  });

  test('as messages: fails on a line that is too long, before it has read it', async () => {
    const read = collect(readLines(from('12345', '67890', '1'), { maxBytes: 10, as: 'messages' }));
    await expect(read).rejects.toThrow(LineTooLong);
  });

  test('as logs: shortens a line that is too long, and keeps the end', async () => {
    const lines = readLines(from('12345', '678901', '2\nab', 'cdefghijklmno\nlast'), {
      maxBytes: 10,
      as: 'logs',
    });
    expect(await collect(lines)).toEqual(['1234567890', 'abcdefghij', 'last']);
  });
});
