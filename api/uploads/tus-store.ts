import { DataStore, Upload } from '@tus/server';
import { BlobNotFound, PartialConflict, PartialOverflow } from '../../core/blobs/blobs.ts';
import type { UploadRef } from '../../core/objects.ts';
import { ServiceError } from '../../core/problem.ts';
import { expireUploadTask } from '../../core/tasks/task.ts';
import { removeUpload } from '../../core/uploads/remove-upload.ts';
import { findUpload, UPLOAD_LIFETIME_MS, type UploadRecord } from '../../core/uploads/upload-record.ts';
import type { ApiDependencies } from '../dependencies.ts';
import { createUpload } from './create-upload.ts';
import type { PieceBody } from './piece-body.ts';

export const TUS_EXTENSIONS = ['creation', 'creation-with-upload', 'expiration', 'termination'];

/** It is given back in a header, and clients take no more than 16 KiB of those. */
const MAX_METADATA_LENGTH = 8 * 1024;

/** What one request may do to one upload, in the words of @tus/server. Whose upload it is was settled before. */
export class TusStore extends DataStore {
  override extensions = TUS_EXTENSIONS;
  /** Once it is known. */
  record: UploadRecord | undefined;
  /** Whether the upload turned out to exist no more. */
  isGone = false;
  readonly #dependencies: ApiDependencies;
  readonly #upload: UploadRef;
  readonly #request: { metadata: string | null; openBody(): PieceBody; lost: AbortSignal };

  /** `openBody`: the bytes of a piece, past the web streams of @tus/server. `lost`: somebody else may write now. */
  constructor(
    dependencies: ApiDependencies,
    upload: UploadRef,
    request: { metadata: string | null; openBody(): PieceBody; lost: AbortSignal },
  ) {
    super();
    this.#dependencies = dependencies;
    this.#upload = upload;
    this.#request = request;
  }

  override async create(upload: Upload): Promise<Upload> {
    const { metadata } = this.#request;
    if (metadata !== null && metadata.length > MAX_METADATA_LENGTH) {
      throw new ServiceError(
        'invalid-request',
        `Upload-Metadata may have ${MAX_METADATA_LENGTH} characters.`,
        {
          extensions: { field: 'Upload-Metadata' },
        },
      );
    }
    const { filename, filetype, content_type } = upload.metadata ?? {};
    this.record = await createUpload(this.#dependencies, this.#upload, {
      kind: 'tus',
      filename: filename ?? null,
      contentType: filetype ?? content_type ?? null,
      sizeBytes: upload.size ?? 0,
      metadata,
    });
    upload.creation_date = this.record.created_at;
    return upload;
  }

  /** For every request but the one that creates it: before the lock, which only an upload that exists may have. */
  async find(): Promise<void> {
    this.record = await findUpload(this.#dependencies.records, this.#upload);
    if (this.record === undefined) throw noSuchUpload();
  }

  override async getUpload(id: string): Promise<Upload> {
    const { blobs, now } = this.#dependencies;
    const record = this.#known();
    if (now() > Date.parse(record.expires_at)) throw gone();
    const offset = await blobs.storedBytes(record.partial);
    if (offset === undefined) {
      // Removed while this request waited for the lock, perhaps.
      await this.find().catch((error: unknown) => {
        this.isGone = true;
        throw error;
      });
      throw gone();
    }
    return new Upload({ id, size: record.size_bytes, offset, creation_date: record.created_at });
  }

  override async write(_stream: unknown, _id: string, offset: number): Promise<number> {
    const { partial } = this.#known();
    const { lost, openBody } = this.#request;
    try {
      return await this.#dependencies.blobs.appendPartial(partial, offset, openBody().stream, {
        signal: lost,
      });
    } catch (error) {
      if (error instanceof PartialConflict) throw conflict(error.storedBytes);
      if (error instanceof PartialOverflow) throw beyondLength();
      if (error instanceof BlobNotFound) throw gone();
      throw error;
    }
  }

  override async remove(): Promise<void> {
    const { queue, log } = this.#dependencies;
    await removeUpload(this.#dependencies, this.#upload);
    this.isGone = true;
    // It would find nothing to do.
    await queue.delete(expireUploadTask(this.#upload)).catch((error: unknown) => {
      log.warn({ err: error, upload: this.#upload.id }, 'the task that expires the upload was not deleted');
    });
  }

  override getExpiration(): number {
    return UPLOAD_LIFETIME_MS;
  }

  #known(): UploadRecord {
    if (this.record === undefined) throw noSuchUpload();
    return this.record;
  }
}

export function noSuchUpload(): ServiceError {
  return new ServiceError('not-found', 'There is no such upload. It may have been finished with or expired.');
}

export function conflict(storedBytes?: number): ServiceError {
  return new ServiceError(
    'upload-conflict',
    'The piece does not begin where the upload ends. Ask with HEAD where that is, and go on from there.',
    storedBytes === undefined ? {} : { extensions: { upload_offset: storedBytes } },
  );
}

export function beyondLength(): ServiceError {
  return new ServiceError('media-too-large', 'The piece goes beyond the length that the upload was given.');
}

function gone(): ServiceError {
  return new ServiceError('upload-gone', 'The upload has expired. Upload the file again.');
}
