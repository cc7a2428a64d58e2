import { checkGcsSource } from '../core/gcs-sources.ts';
import { harmlessName } from '../core/harmless-name.ts';
import type { JobRecord } from '../core/job.ts';
import { checkLink } from '../core/link-guard.ts';
import { mediaTypeOfName } from '../core/media-types.ts';
import { type UploadRef, uploadMediaKey } from '../core/objects.ts';
import { percentDecoded } from '../core/percent-decoded.ts';
import { ServiceError } from '../core/problem.ts';
import { invalidOption } from '../core/read-options.ts';
import type { ApiDependencies } from './dependencies.ts';
import { finishedUpload } from './uploads/open-upload.ts';

export interface MediaSource {
  source: JobRecord['source'];
  /** Where it is stored already; otherwise ingest fetches it. */
  storedAt: string | null;
}

const KINDS = ['upload_id', 'url', 'gcs_uri'] as const;

/**
 * The media that a request names instead of bringing it: `{"upload_id"}`, `{"url"}` or `{"gcs_uri"}`.
 * @throws {ServiceError}
 */
export async function readMediaSource(
  dependencies: Pick<ApiDependencies, 'blobs' | 'records' | 'linkNetworks' | 'gcsSources' | 'now'>,
  owner: string,
  source: unknown,
): Promise<MediaSource> {
  const [kind, address] = readAddress(source);
  switch (kind) {
    case 'upload_id':
      return await fromUpload(dependencies, { owner, id: address });
    case 'url': {
      const { href, pathname } = ofSource(() => checkLink(address, dependencies.linkNetworks));
      return { source: remote('url', href, pathname), storedAt: null };
    }
    case 'gcs_uri': {
      const { bucket, key } = ofSource(() => checkGcsSource(address, dependencies.gcsSources));
      return { source: remote('gcs', `gs://${bucket}/${key}`, key), storedAt: null };
    }
  }
}

function readAddress(source: unknown): [kind: (typeof KINDS)[number], address: string] {
  const members = typeof source === 'object' && source !== null ? Object.entries(source) : [];
  const [kind, address] = members[0] ?? [];
  const known = KINDS.find((name) => name === kind);
  if (members.length !== 1 || known === undefined || typeof address !== 'string') {
    throw invalidOption(
      'source',
      'A JSON body needs a source with one of upload_id, url or gcs_uri. A file is sent as multipart/form-data.',
    );
  }
  return [known, address];
}

async function fromUpload(
  dependencies: Pick<ApiDependencies, 'blobs' | 'records' | 'now'>,
  upload: UploadRef,
): Promise<MediaSource> {
  const record = await finishedUpload(dependencies, upload.owner, upload.id);
  const source = {
    type: 'upload',
    address: upload.id,
    filename: record.filename,
    content_type: record.content_type,
    bytes: record.size_bytes,
    sha256: null,
  } as const;
  return { source, storedAt: uploadMediaKey(upload) };
}

/** What is wrong is in the field `source`: ingest makes the same checks, and knows no fields. */
function ofSource<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    throw new ServiceError(error.slug, error.message, { cause: error, extensions: { field: 'source' } });
  }
}

function remote(type: 'url' | 'gcs', address: string, path: string): JobRecord['source'] {
  const filename = harmlessName(percentDecoded(path));
  return {
    type,
    address,
    filename,
    content_type: mediaTypeOfName(filename ?? ''),
    bytes: null,
    sha256: null,
  };
}
