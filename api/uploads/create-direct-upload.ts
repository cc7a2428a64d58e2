import type { RequestHandler } from 'express';
import { z } from 'zod';
import { newUploadId } from '../../core/objects.ts';
import { ServiceError } from '../../core/problem.ts';
import { readOptions } from '../../core/read-options.ts';
import type { ApiDependencies } from '../dependencies.ts';
import { ownerOf } from '../http/authenticate.ts';
import { createUpload } from './create-upload.ts';

const NAME = 'must be text of up to 1000 characters';
const name = z.string(NAME).max(1_000, NAME).nullish();
const SIZE = 'must be a whole number of bytes, at least 1';
const DIRECT_UPLOAD = z.strictObject({
  filename: name,
  content_type: name,
  size_bytes: z.int(SIZE).min(1, SIZE),
});

/** Where the bytes can go straight to the store: the address to send them to, for this size and type only. */
export function createDirectUpload(dependencies: ApiDependencies): RequestHandler {
  return async (req, res) => {
    const { blobs, now } = dependencies;
    if (blobs.directUpload === undefined) {
      throw new ServiceError(
        'not-found',
        'This service takes no direct uploads. Upload in pieces at /v1/uploads, or as multipart/form-data.',
      );
    }
    const body: unknown = req.body;
    const isObject = typeof body === 'object' && body !== null && !Array.isArray(body);
    const fields = isObject ? (body as Record<string, unknown>) : {};
    const { filename, content_type, size_bytes } = readOptions(
      DIRECT_UPLOAD,
      fields,
      Object.keys(DIRECT_UPLOAD.shape),
    );
    const upload = { owner: ownerOf(res), id: newUploadId(now()) };
    const record = await createUpload(dependencies, upload, {
      kind: 'direct',
      filename: filename ?? null,
      contentType: content_type ?? null,
      sizeBytes: size_bytes,
      metadata: null,
      origin: req.get('origin'),
    });
    res
      .status(201)
      .set('Cache-Control', 'no-store')
      .json({
        upload_id: upload.id,
        ...blobs.directUpload(record.partial),
        expires_at: record.expires_at,
      });
  };
}
