import type { Readable } from 'node:stream';

export class LineTooLong extends Error {
  override readonly name = 'LineTooLong';
}

/**
 * The lines of a pipe, in memory one at a time and never more than `maxBytes` of one.
 * `messages`: a longer line is an error, and what is left without a line break at the end was cut off, so it is no line.
 * `logs`: a longer line is shortened, and the end counts.
 */
export async function* readLines(
  stream: Readable,
  { maxBytes, as }: { maxBytes: number; as: 'messages' | 'logs' },
): AsyncGenerator<string> {
  let pieces: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    for (let from = 0; from < chunk.length; ) {
      const lineBreak = chunk.indexOf(0x0a, from);
      const to = lineBreak === -1 ? chunk.length : lineBreak;
      if (sizeBytes + to - from > maxBytes && as === 'messages') {
        throw new LineTooLong(`a line is longer than ${maxBytes} bytes`);
      }
      const piece = chunk.subarray(from, Math.min(to, from + maxBytes - sizeBytes));
      if (piece.length > 0) pieces.push(piece);
      sizeBytes += piece.length;
      if (lineBreak !== -1) {
        yield Buffer.concat(pieces).toString();
        pieces = [];
        sizeBytes = 0;
      }
      from = to + 1;
    }
  }
  if (sizeBytes > 0 && as === 'logs') yield Buffer.concat(pieces).toString();
}
