import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { mediaTypeOfName } from '../core/media-types.ts';
import { printable } from './printable.ts';

/** A recording on disk and what is asked for it: option names as in the API. */
export interface MediaUpload {
  path: string;
  filename: string;
  sizeBytes: number;
  options: Readonly<Record<string, string>>;
}

export interface MultipartBody {
  contentType: string;
  sizeBytes: number;
  body: Readable;
}

/** The recording cannot be read to its end. */
export class RecordingUnreadable extends Error {
  override readonly name = 'RecordingUnreadable';
}

const PIECE_BYTES = 256 * 1024;

/** multipart/form-data (RFC 7578) with the options before the file, so that they can be refused before it arrives. */
export function multipart(
  { path, filename, sizeBytes, options }: MediaUpload,
  onUpload: (sentBytes: number) => void = () => {},
): MultipartBody {
  const boundary = `zeroscribe-${randomBytes(16).toString('hex')}`;
  const fields = Object.entries(options)
    .map(
      ([name, value]) =>
        `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
    )
    .join('');
  const head = Buffer.from(
    `${fields}--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${quotable(filename)}"\r\n` +
      `Content-Type: ${mediaTypeOfName(filename)}\r\n\r\n`,
  );
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`);

  async function* pieces(): AsyncGenerator<Buffer> {
    yield head;
    let sentBytes = 0;
    for await (const piece of read(path, sizeBytes)) {
      yield piece;
      sentBytes += piece.length;
      onUpload(sentBytes);
    }
    // Fewer bytes than announced would leave the server waiting for the rest.
    if (sentBytes < sizeBytes) {
      throw new RecordingUnreadable(`${path} became shorter while it was being uploaded.`);
    }
    yield tail;
  }

  return {
    contentType: `multipart/form-data; boundary=${boundary}`,
    sizeBytes: head.length + sizeBytes + tail.length,
    body: Readable.from(pieces(), { objectMode: false }),
  };
}

async function* read(path: string, sizeBytes: number): AsyncGenerator<Buffer> {
  if (sizeBytes === 0) return;
  try {
    yield* createReadStream(path, { end: sizeBytes - 1, highWaterMark: PIECE_BYTES });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new RecordingUnreadable(`${path} could not be read (${code}).`, { cause });
  }
}

/** Quotes as browsers do it (WHATWG HTML, multipart/form-data encoding); control characters no form can carry. */
function quotable(filename: string): string {
  return printable(filename).replaceAll('"', '%22');
}
