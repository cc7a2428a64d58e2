import type { JobRecord } from '../job.ts';

/** MP3 of 64 kbit/s. */
const PLAYBACK_BYTES_PER_SECOND = 8_000;
/** FLAC of speech at 16 kHz: 60 MB an hour. */
const FLAC_BYTES_PER_SECOND = 16_700;
/** Three words a second, each with its times, in JSON. */
const TRANSCRIPT_BYTES_PER_SECOND = 250;
const RECORD_BYTES = 5_000;

/** What is kept of the job: the media to the byte, and of what was made of it an estimate. */
export function storedBytes({
  objects,
  source,
  duration_seconds,
}: Pick<JobRecord, 'objects' | 'source' | 'duration_seconds'>): number {
  const seconds = duration_seconds ?? 0;
  return (
    RECORD_BYTES +
    (objects.media === null ? 0 : (source.bytes ?? 0)) +
    (objects.playback === null ? 0 : seconds * PLAYBACK_BYTES_PER_SECOND) +
    (objects.audio?.length ?? 0) * seconds * FLAC_BYTES_PER_SECOND +
    (objects.transcript === null ? 0 : seconds * TRANSCRIPT_BYTES_PER_SECOND)
  );
}
