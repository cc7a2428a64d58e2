import { createHash } from 'node:crypto';
import { pipeline, type Readable, Transform } from 'node:stream';
import type { Request, Response } from 'express';
import multer from 'multer';
import { harmlessName } from '../../core/harmless-name.ts';
import { mediaTooLarge } from '../../core/media-too-large.ts';
import { mediaType } from '../../core/media-types.ts';
import { ServiceError, toServiceError } from '../../core/problem.ts';
import { passedThrough } from './collect-young.ts';

export type FormFields = Readonly<Record<string, unknown>>;

export interface ReceivedUpload {
  /** Those before the file and those after it. */
  fields: FormFields;
  filename: string | null;
  contentType: string;
  sizeBytes: number;
  sha256: string;
}

export interface UploadHandling {
  maxBytes: number;
  /** Sees the fields that came before the file. When it throws, the file is not read. */
  beforeFile(fields: FormFields): Promise<void>;
  /** Resolves once the file is stored. When it fails or `signal` aborts, nothing is left of it. */
  store(body: Readable, options: { contentType: string; signal: AbortSignal }): Promise<unknown>;
}

const FIELD = 'file';
/** More than there are options, and enough for the largest metadata. */
const LIMITS = {
  fields: 64,
  fieldNameSize: 100,
  fieldSize: 128 * 1024,
  fieldNestingDepth: 1,
  headerPairs: 50,
};

/**
 * Streams the one file of a form to `store` while hashing it. Settles at the first thing that is wrong, while the
 * client may still be sending; by then `store` has settled too.
 * @throws {ServiceError}
 */
export async function receiveUpload(
  req: Request,
  res: Response,
  { maxBytes, beforeFile, store }: UploadHandling,
): Promise<ReceivedUpload> {
  const abort = new AbortController();
  const { promise: parsed, resolve, reject } = Promise.withResolvers<void>();
  refuseTooLarge(req, maxBytes);
  let accepting: Promise<Omit<ReceivedUpload, 'fields' | 'sizeBytes' | 'sha256'>> | undefined;
  let storing: Promise<Pick<ReceivedUpload, 'sizeBytes' | 'sha256'>> | undefined;
  let body: Transform | undefined;

  const fail = (error: ServiceError) => {
    reject(error);
    abort.abort(error);
  };

  const accept = async (file: Express.Multer.File) => {
    if (file.fieldname !== FIELD) {
      throw invalid(
        `The form has a file in the field ${file.fieldname.slice(0, 100)}. Send the media in the field file.`,
      );
    }
    const contentType = mediaType(file.mimetype, file.originalname);
    if (contentType === undefined) {
      throw new ServiceError(
        'media-type-not-supported',
        `The file is sent as ${file.mimetype.slice(0, 100)}. Send audio or video.`,
        { extensions: { field: FIELD } },
      );
    }
    await beforeFile(req.body as FormFields);
    return { filename: harmlessName(file.originalname), contentType };
  };

  const hashInto = async (file: Express.Multer.File) => {
    const hash = createHash('sha256');
    let sizeBytes = 0;
    const hashing = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        sizeBytes += chunk.length;
        passedThrough(chunk.length);
        done(null, chunk);
      },
    });
    body = hashing;
    file.stream.once('limit', () => fail(mediaTooLarge(maxBytes)));
    let broken: Error | undefined;
    file.stream.once('error', (error) => {
      // Otherwise it is the store that gave up, and its reason is the one to tell.
      if (!hashing.destroyed) broken = error;
    });
    pipeline(file.stream, hashing, () => {});
    try {
      const contentType = mediaType(file.mimetype, file.originalname) ?? '';
      await store(hashing, { contentType, signal: abort.signal });
    } catch (error) {
      throw broken === undefined ? error : fromParser(broken);
    }
    return { sizeBytes, sha256: hash.digest('hex') };
  };

  const parse = multer({
    limits: { ...LIMITS, fileSize: maxBytes },
    // A name is whatever the client says; its last part is taken below, and kept only to be shown.
    preservePath: true,
    defParamCharset: 'utf8',
    fileFilter: (_req, file, done) => {
      if (accepting !== undefined) {
        const error = invalid('The form has more than one file. Send one file a request.');
        fail(error);
        done(error);
        return;
      }
      accepting = accept(file);
      accepting.then(
        () => done(null, true),
        (error: unknown) => {
          fail(toServiceError(error));
          done(error as Error);
        },
      );
    },
    storage: {
      _handleFile: (_req, file, done) => {
        storing = hashInto(file);
        storing.then(
          () => done(null, {}),
          (error: unknown) => {
            fail(toServiceError(error));
            done(error);
          },
        );
      },
      // Whoever asked for the upload removes what it stored, in one place for all reasons.
      _removeFile: (_req, _file, done) => done(null),
    },
  }).any();

  parse(req, res, async (error?: unknown) => {
    if (error === undefined || error === null) {
      resolve();
      return;
    }
    // The store has given up, and needs a moment to clear away before it says why: to the parser that is a broken form.
    if (body?.destroyed) await storing?.catch((reason: unknown) => fail(toServiceError(reason)));
    fail(fromParser(error));
  });

  try {
    await parsed;
    const accepted = await accepting;
    const stored = await storing;
    if (accepted === undefined || stored === undefined) {
      throw invalid('The form has no file. Send the media in the field file, with a file name.');
    }
    if (stored.sizeBytes === 0) {
      throw new ServiceError('media-empty', 'The file has no bytes. Check it and send it again.');
    }
    return { fields: req.body as FormFields, ...accepted, ...stored };
  } catch (error) {
    abort.abort(error);
    await Promise.allSettled([accepting, storing]);
    throw error;
  }
}

/** A form is a little larger than its file. */
const FORM_OVERHEAD_BYTES = 64 * 1024;

/** So that nobody sends gigabytes in vain. */
function refuseTooLarge(req: Request, maxBytes: number): void {
  const announced = Number(req.get('content-length'));
  if (announced > maxBytes + FORM_OVERHEAD_BYTES + LIMITS.fieldSize) throw mediaTooLarge(maxBytes);
}

function invalid(detail: string): ServiceError {
  return new ServiceError('invalid-request', detail, { extensions: { field: FIELD } });
}

function interrupted(cause: unknown): ServiceError {
  return new ServiceError('upload-interrupted', 'The upload broke off. Nothing was kept; send it again.', {
    cause,
  });
}

function fromParser(error: unknown): ServiceError {
  if (error instanceof ServiceError) return error;
  if (error instanceof multer.MulterError) {
    return new ServiceError('invalid-request', `The form is not accepted: ${error.message.toLowerCase()}.`, {
      cause: error,
      ...(error.field === undefined ? {} : { extensions: { field: error.field.slice(0, 100) } }),
    });
  }
  const known = toServiceError(error);
  if (known.slug !== 'internal') return known;
  const { message, code } = error as NodeJS.ErrnoException;
  if (/^Unexpected end|^Request (aborted|closed|error)|^aborted$/.test(message) || code === 'ECONNRESET') {
    return interrupted(error);
  }
  return new ServiceError('invalid-request', 'The body is not a valid multipart form.', { cause: error });
}
