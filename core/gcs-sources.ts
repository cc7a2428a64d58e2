import { ServiceError } from './problem.ts';

/** An object of a bucket. Its name is literal: a gs:// address knows neither escapes nor queries. */
export interface GcsSource {
  bucket: string;
  key: string;
}

/** `prefix` is nothing, an object's name, or ends with a slash. */
export type GcsSources = readonly { bucket: string; prefix: string }[];

const ADDRESS = /^gs:\/\/([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:\/(.*))?$/su;
const MAX_KEY_BYTES = 1_024;

/** @throws {Error} that says what is wrong */
export function parseGcsSources(text: string): GcsSources {
  return text.split(',').map((item) => {
    const [, bucket, prefix = ''] = ADDRESS.exec(item.trim()) ?? [];
    // A star would be taken literally, which is not what is meant.
    const isPrefix = prefix === '' || (isKey(prefix.replace(/\/$/, '')) && !prefix.includes('*'));
    if (bucket === undefined || !isPrefix) {
      throw new Error('must be addresses such as gs://bucket,gs://bucket/folder/');
    }
    return { bucket, prefix };
  });
}

/** @throws {ServiceError} gcs-source-refused */
export function checkGcsSource(text: string, sources: GcsSources): GcsSource {
  if (sources.length === 0) {
    throw refused('This service reads no gs:// objects. Its operator can allow some with GCS_SOURCES.');
  }
  const [, bucket, key] = ADDRESS.exec(text) ?? [];
  if (bucket === undefined || key === undefined || !isKey(key)) {
    throw refused('This is not the address of an object, such as gs://bucket/folder/name.mp4.');
  }
  if (!sources.some((source) => source.bucket === bucket && isBelow(key, source.prefix))) {
    throw refused('The object is not in a bucket or folder that the operator allows with GCS_SOURCES.');
  }
  return { bucket, key };
}

/** A folder does not open what only begins like it. */
function isBelow(key: string, prefix: string): boolean {
  if (prefix === '' || key === prefix) return true;
  return key.startsWith(prefix.endsWith('/') ? prefix : `${prefix}/`);
}

/** Names that Cloud Storage has, less those with `.` and `..`: they could lead elsewhere once they are part of a path. */
function isKey(key: string): boolean {
  if (key === '' || Buffer.byteLength(key) > MAX_KEY_BYTES || !key.isWellFormed()) return false;
  return !/\p{Cc}/u.test(key) && !key.split('/').some((segment) => segment === '.' || segment === '..');
}

function refused(detail: string): ServiceError {
  return new ServiceError('gcs-source-refused', detail);
}
