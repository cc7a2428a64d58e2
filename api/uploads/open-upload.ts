import type { Blobs } from '../../core/blobs/blobs.ts';
import { UPLOAD_ID, uploadMediaKey } from '../../core/objects.ts';
import { ServiceError } from '../../core/problem.ts';
import type { Records } from '../../core/records/records.ts';
import { findUpload, type UploadRecord } from '../../core/uploads/upload-record.ts';

const extensions = { field: 'source.upload_id' };

/**
 * The upload that a transcription names as its source. It stays where it is, so whoever wants to keep it copies it.
 * @throws {ServiceError} `not-found`, `upload-unfinished`, `upload-gone`, `media-empty`
 */
export async function finishedUpload(
  { blobs, records, now }: { blobs: Blobs; records: Records; now(): number },
  owner: string,
  uploadId: string,
): Promise<UploadRecord> {
  const record = UPLOAD_ID.test(uploadId) ? await findUpload(records, { owner, id: uploadId }) : undefined;
  if (record === undefined) {
    throw new ServiceError('not-found', 'There is no such upload. It may have expired.', { extensions });
  }
  if (now() > Date.parse(record.expires_at)) throw gone();
  if (record.size_bytes === 0) {
    throw new ServiceError('media-empty', 'The upload has no bytes. Check the file and upload it again.', {
      extensions,
    });
  }
  if ((await blobs.stat(uploadMediaKey(record))) !== undefined) return record;
  const storedBytes = await blobs.storedBytes(record.partial);
  if (storedBytes === undefined) throw gone();
  // Otherwise its last piece has arrived in between.
  if (storedBytes < record.size_bytes) {
    throw new ServiceError(
      'upload-unfinished',
      `The upload has ${storedBytes} of ${record.size_bytes} bytes. Finish it, then name it as a source.`,
      { extensions: { ...extensions, upload_offset: storedBytes } },
    );
  }
  return record;
}

function gone(): ServiceError {
  return new ServiceError('upload-gone', 'The upload has expired. Upload the file again.', { extensions });
}
