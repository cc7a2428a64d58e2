import { z } from 'zod';
import { PartialBlob } from '../blobs/blobs.ts';
import { OWNER, UPLOAD_ID, type UploadRef, uploadKey } from '../objects.ts';
import type { Records } from '../records/records.ts';

/** How long an upload is kept, from its creation on, finished or not. */
export const UPLOAD_LIFETIME_MS = 24 * 3_600_000;

const time = z.iso.datetime();

/** Media that arrives in pieces and waits to be named by a job. Written once; how far it is, the partial blob says. */
export const UploadRecord = z.object({
  schema: z.literal(1),
  id: z.string().regex(UPLOAD_ID),
  owner: z.string().regex(OWNER),
  kind: z.enum(['tus', 'direct']),
  filename: z.string().nullable(),
  content_type: z.string(),
  size_bytes: z.int(),
  /** The header `Upload-Metadata` as it came, because a client is given it back as it came. */
  metadata: z.string().nullable(),
  created_at: time,
  expires_at: time,
  partial: PartialBlob,
});
export type UploadRecord = z.infer<typeof UploadRecord>;

export async function findUpload(records: Records, upload: UploadRef): Promise<UploadRecord | undefined> {
  const stored = await records.read(uploadKey(upload));
  return stored === undefined ? undefined : UploadRecord.parse(stored.value);
}
