import { invalid } from './api-error.ts';

const MAX_HEAD_BYTES = 256 * 1024;

export interface Multipart {
  metadata: Record<string, unknown>;
  contentType: string | undefined;
  data: AsyncIterable<Buffer>;
}

/** `multipart/related` with two parts: JSON, then the bytes of the object, which pass through. */
export async function readMultipart(
  body: AsyncIterable<Buffer>,
  contentTypeHeader: string,
): Promise<Multipart> {
  const boundary = /boundary="?([^";]+)"?/i.exec(contentTypeHeader)?.[1];
  if (boundary === undefined) throw invalid('Missing multipart boundary.');
  const iterator = body[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  let parts = splitHead(head, boundary);
  while (parts === undefined) {
    const next = await iterator.next();
    if (next.done || head.length > MAX_HEAD_BYTES) throw invalid('Malformed multipart body.');
    head = Buffer.concat([head, next.value]);
    parts = splitHead(head, boundary);
  }
  const { metadata, contentType, dataStart } = parts;
  return { metadata, contentType, data: untilBoundary(head.subarray(dataStart), iterator, boundary) };
}

function splitHead(head: Buffer, boundary: string) {
  const delimiter = `--${boundary}`;
  const jsonStart = head.indexOf('\r\n\r\n');
  const jsonEnd = jsonStart < 0 ? -1 : head.indexOf(`\r\n${delimiter}`, jsonStart);
  const dataHead = jsonEnd < 0 ? -1 : head.indexOf('\r\n\r\n', jsonEnd + 2 + delimiter.length);
  if (dataHead < 0) return undefined;
  const headers = head.subarray(jsonEnd, dataHead).toString('latin1');
  return {
    metadata: JSON.parse(head.subarray(jsonStart + 4, jsonEnd).toString('utf8')) as Record<string, unknown>,
    contentType: /^content-type: *(.+?)\r?$/im.exec(headers)?.[1],
    dataStart: dataHead + 4,
  };
}

/** The last bytes are held back until it is known that they are the closing delimiter. */
async function* untilBoundary(
  first: Buffer,
  rest: AsyncIterator<Buffer>,
  boundary: string,
): AsyncGenerator<Buffer> {
  const closing = `\r\n--${boundary}--`;
  let held = first;
  for (let next = await rest.next(); !next.done; next = await rest.next()) {
    const all = Buffer.concat([held, next.value]);
    const known = Math.max(0, all.length - closing.length - 2);
    if (known > 0) yield all.subarray(0, known);
    held = all.subarray(known);
  }
  const end = held.lastIndexOf(closing);
  if (end < 0) throw invalid('Malformed multipart body.');
  if (end > 0) yield held.subarray(0, end);
}
