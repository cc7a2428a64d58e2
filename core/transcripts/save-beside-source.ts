import type { Storage } from '@google-cloud/storage';
import { GcsApi } from '../cloud-storage/gcs-api.ts';
import { FORMATS, renderTranscript } from '../formats/formats.ts';
import { checkGcsSource, type GcsSources } from '../gcs-sources.ts';
import type { JobRecord } from '../job.ts';
import { ServiceError } from '../problem.ts';
import type { Transcript } from '../transcript.ts';

export interface SourceWriteAccess {
  /** With the service's own rights. */
  openStorage(): Promise<Storage>;
  gcsSources: GcsSources;
}

/** Says in the object's metadata that it is ours, and may be replaced by us. */
const MARK = 'zeroscribe-transcription';

/**
 * Writes the transcript beside the gs:// object that it was made of, in each format that was asked for:
 * `gs://bucket/talk.srt` beside `gs://bucket/talk.mp4`. What is there and was not written by us is left alone.
 * @throws {ServiceError} `gcs-source-refused`, or what Cloud Storage says
 */
export async function saveBesideSource(
  { openStorage, gcsSources }: SourceWriteAccess,
  { id, source, options }: Pick<JobRecord, 'id' | 'source' | 'options'>,
  transcript: Transcript,
  signal: AbortSignal,
): Promise<void> {
  if (options.save_beside_source === undefined || source.type !== 'gcs') return;
  const { bucket, key } = checkGcsSource(source.address ?? '', gcsSources);
  const api = new GcsApi((await openStorage()).bucket(bucket));
  const base = key.replace(/\.[^./]{1,10}$/, '');
  for (const format of options.save_beside_source) {
    const { contentType, extension } = FORMATS[format];
    const name = base + extension;
    checkGcsSource(`gs://${bucket}/${name}`, gcsSources);
    const existing = await api.find(name, signal);
    if (existing !== undefined && existing.metadata?.[MARK] === undefined) throw taken(name);
    const object = { name, contentType, metadata: { [MARK]: id } };
    const bytes = Buffer.from(renderTranscript(transcript, format));
    const stored = await api.insert(object, bytes, existing?.generation ?? '0', signal);
    if (typeof stored === 'object') continue;
    // Somebody was there in between: ourselves, if the answer to an earlier try was lost.
    if ((await api.find(name, signal))?.metadata?.[MARK] !== id) throw taken(name);
  }
}

function taken(name: string): ServiceError {
  return new ServiceError(
    'gcs-source-refused',
    `There is something else at ${name}. Remove it, or move it away, then ask for a retry.`,
  );
}
