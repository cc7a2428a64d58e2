import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { mediaTypeOfName } from '../core/media-types.ts';
import { printable } from './printable.ts';
import { type RecordingFile, readRecording } from './recording-bytes.ts';

/** Option names as in the API. */
export type RequestOptions = Readonly<Record<string, string | number | boolean>>;

/** A recording on disk and what is asked for it. */
export interface MediaUpload extends RecordingFile {
  filename: string;
  options: RequestOptions;
}

export interface MultipartBody {
  contentType: string;
  sizeBytes: number;
  body: Readable;
}

/** multipart/form-data (RFC 7578) with the options before the file, so that they can be refused before it arrives. */
export function multipart(
  media: MediaUpload,
  onUpload: (sentBytes: number) => void = () => {},
): MultipartBody {
  const { filename, sizeBytes, options } = media;
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
    for await (const piece of readRecording(media, 0, sizeBytes)) {
      yield piece;
      sentBytes += piece.length;
      onUpload(sentBytes);
    }
    yield tail;
  }

  return {
    contentType: `multipart/form-data; boundary=${boundary}`,
    sizeBytes: head.length + sizeBytes + tail.length,
    body: Readable.from(pieces(), { objectMode: false }),
  };
}

/** Quotes as browsers do it (WHATWG HTML, multipart/form-data encoding); control characters no form can carry. */
function quotable(filename: string): string {
  return printable(filename).replaceAll('"', '%22');
}
