import type { Blobs } from '../blobs/blobs.ts';
import { type UploadRef, uploadKey, uploadPrefix } from '../objects.ts';
import type { Records } from '../records/records.ts';
import { findUpload } from './upload-record.ts';

/**
 * Removes an upload and everything of it but its lock. The record goes last: it alone knows the partial blob, so a
 * removal that a crash interrupts can be done again.
 */
export async function removeUpload(
  { blobs, records }: { blobs: Blobs; records: Records },
  upload: UploadRef,
): Promise<void> {
  const record = await findUpload(records, upload);
  // First of all, so that no piece that is still arriving can make a blob of it afterwards.
  if (record !== undefined) await blobs.cancelPartial(record.partial);
  await blobs.deletePrefix(uploadPrefix(upload));
  await records.delete(uploadKey(upload));
}
