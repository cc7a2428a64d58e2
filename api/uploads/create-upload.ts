import { harmlessName } from '../../core/harmless-name.ts';
import { mediaTooLarge } from '../../core/media-too-large.ts';
import { mediaType } from '../../core/media-types.ts';
import { type UploadRef, uploadKey, uploadMediaKey } from '../../core/objects.ts';
import { ServiceError } from '../../core/problem.ts';
import { expireUploadTask } from '../../core/tasks/task.ts';
import { UPLOAD_LIFETIME_MS, type UploadRecord } from '../../core/uploads/upload-record.ts';
import type { ApiDependencies } from '../dependencies.ts';

/** An upload is not removed under the hands of those who were in time, by whichever clock. */
const EXPIRY_GRACE_MS = 3_600_000;
const MIME_TYPE = /^\s*([a-z0-9!#$&^_.+-]{1,100}\/[a-z0-9!#$&^_.+-]{1,100})\s*(?:;|$)/i;

export interface NewUpload {
  kind: UploadRecord['kind'];
  /** As the client gives them. */
  filename: string | null;
  contentType: string | null;
  sizeBytes: number;
  metadata: string | null;
  /** Of the page that will send the bytes past us, where the store must know it. */
  origin?: string | undefined;
}

/**
 * Makes room for an upload. The task that removes it comes first: whatever a crash leaves behind on the way from here
 * to the record, it finds. Without a record nobody can add to the partial blob, so that stays empty.
 * @throws {ServiceError} `media-type-not-supported`, `media-too-large`
 */
export async function createUpload(
  { blobs, records, queue, now, maxUploadBytes }: ApiDependencies,
  upload: UploadRef,
  { kind, filename, contentType, sizeBytes, metadata, origin }: NewUpload,
): Promise<UploadRecord> {
  if (sizeBytes > maxUploadBytes) throw mediaTooLarge(maxUploadBytes);
  const type = readMediaType(contentType ?? '', filename ?? '');
  const nowMs = now();
  await queue.enqueue(expireUploadTask(upload), { delayMs: UPLOAD_LIFETIME_MS + EXPIRY_GRACE_MS });
  const partial = await blobs.startPartial(uploadMediaKey(upload), {
    contentType: type,
    sizeBytes,
    ...(origin === undefined ? {} : { origin }),
  });
  const record: UploadRecord = {
    schema: 1,
    ...upload,
    kind,
    filename: filename === null ? null : harmlessName(filename),
    content_type: type,
    size_bytes: sizeBytes,
    metadata,
    created_at: new Date(nowMs).toISOString(),
    expires_at: new Date(nowMs + UPLOAD_LIFETIME_MS).toISOString(),
    partial,
  };
  try {
    await records.create(uploadKey(upload), record);
  } catch (error) {
    await blobs.cancelPartial(partial).catch(() => {});
    throw error;
  }
  return record;
}

/** As for a part of a form: without its parameters, and one that is none at all is as good as not given. */
function readMediaType(contentType: string, filename: string): string {
  const type = mediaType(MIME_TYPE.exec(contentType)?.[1] ?? '', filename);
  if (type !== undefined) return type;
  throw new ServiceError(
    'media-type-not-supported',
    `The file is announced as ${(contentType || filename).slice(0, 100)}. Send audio or video.`,
    { extensions: { field: 'content_type' } },
  );
}
