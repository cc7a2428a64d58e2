import type { Readable } from 'node:stream';
import type { Storage } from '@google-cloud/storage';
import { CloudStorageError, GcsApi, type Patience, readBody } from '../core/cloud-storage/gcs-api.ts';
import { openDownload } from '../core/cloud-storage/gcs-download.ts';
import type { GcsSource } from '../core/gcs-sources.ts';
import { harmlessName } from '../core/harmless-name.ts';
import { mediaTooLarge } from '../core/media-too-large.ts';
import { mediaType } from '../core/media-types.ts';
import { ServiceError } from '../core/problem.ts';
import type { RemoteMedia } from './remote-media.ts';

interface Described {
  size: string;
  generation: string;
  contentType?: string;
  contentEncoding?: string;
}

/**
 * Opens an object with the service's own rights; that it is one of those allowed has been checked. A connection that
 * breaks is taken up again within the body.
 * @throws {ServiceError}
 */
export async function openGcsSource(
  storage: Storage,
  { bucket, key }: GcsSource,
  {
    startAt,
    validator = null,
    maxBytes,
    signal,
    patience,
  }: {
    startAt: number;
    validator?: string | null;
    maxBytes: number;
    signal: AbortSignal;
    patience?: Partial<Patience>;
  },
): Promise<RemoteMedia> {
  const api = new GcsApi(storage.bucket(bucket), patience);
  let found: Described;
  let body: Readable | undefined;
  let startsAt = 0;
  try {
    found = await describe(api, key, signal);
    const sizeBytes = Number(found.size);
    if (sizeBytes > maxBytes) throw mediaTooLarge(maxBytes, 'object');
    if (found.contentEncoding === 'gzip') {
      throw refused('The object is stored compressed (Content-Encoding: gzip). Store it as it is.');
    }
    if (validator === found.generation) startsAt = startAt;
    body = await openDownload(api, key, { start: startsAt, generation: found.generation, signal });
  } catch (error) {
    signal.throwIfAborted();
    throw toServiceError(error);
  }
  if (body === undefined) {
    throw new ServiceError('link-unreachable', 'The object was replaced or deleted while it was opened.');
  }
  const filename = harmlessName(key);
  return {
    body,
    sizeBytes: Number(found.size),
    validator: found.generation,
    contentType: mediaType(found.contentType ?? '', filename ?? '') ?? null,
    filename,
    startsAt,
  };
}

async function describe(api: GcsApi, key: string, signal: AbortSignal): Promise<Described> {
  const url = api.objectUrl(key, { fields: 'size,generation,contentType,contentEncoding' });
  return await api.retry(
    async (attempt) => readBody<Described>(await api.request({ method: 'GET', url }, [200], attempt)),
    { signal },
  );
}

function toServiceError(error: unknown): unknown {
  if (!(error instanceof CloudStorageError)) return error;
  if (error.status === 404) return refused('There is no such bucket or object.', error);
  if (error.status === 401 || error.status === 403) {
    return refused(
      'The service has no right to read this object. Give its service account storage.objects.get.',
      error,
    );
  }
  if (!error.isPassing) return refused('Cloud Storage does not give this object out.', error);
  return new ServiceError('link-unreachable', 'Cloud Storage does not answer.', { cause: error });
}

function refused(detail: string, cause?: unknown): ServiceError {
  return new ServiceError('gcs-source-refused', detail, { cause });
}
