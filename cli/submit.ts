import { createHash } from 'node:crypto';
import { mediaTypeOfName } from '../core/media-types.ts';
import type { Client, Transcription } from './client.ts';
import type { Input } from './inputs.ts';
import type { RequestOptions } from './multipart.ts';
import { formatBytes } from './progress.ts';
import type { RecordingProgress } from './progress-display.ts';
import type { Recording } from './recording.ts';
import { checkUnchanged, RecordingChanged } from './recording-bytes.ts';
import { sendDirect } from './send-direct.ts';
import { sendTus } from './send-tus.ts';
import { ApiProblem } from './service-errors.ts';
import { UploadGone } from './upload-gone.ts';
import type { KeptUpload, UploadStates } from './upload-state.ts';

export interface Submission {
  options: RequestOptions;
  progress: RecordingProgress;
  signal: AbortSignal;
  /** Of uploads that may take several runs; undefined where the way to the service is short. */
  uploads: UploadStates | undefined;
}

/** Smaller files are sent in one request: beginning anew costs less than asking how far one is. */
const RESUMABLE_FROM_BYTES = 16 * 1024 * 1024;
/** An upload that is gone was there a moment ago; one that goes again and again will not come through. */
const FRESH_STARTS = 2;

/** Brings the recording to the service, or tells it where it is. */
export async function submit(client: Client, input: Input, submission: Submission): Promise<Transcription> {
  const { options, signal, progress, uploads } = submission;
  if (input.kind !== 'file') return await client.createFrom(sourceOf(input), options, { signal });
  const { recording } = input;
  if (uploads !== undefined && recording.sizeBytes > RESUMABLE_FROM_BYTES) {
    const created = await submitInPieces(client, recording, { ...submission, uploads });
    if (created !== undefined) return created;
  }
  return await client.create(
    { ...recording, options },
    { signal, onUpload: (sentBytes) => progress.uploaded(sentBytes, recording.sizeBytes) },
  );
}

function sourceOf({
  kind,
  address,
}: Exclude<Input, { kind: 'file' }>): { url: string } | { gcs_uri: string } {
  return kind === 'url' ? { url: address } : { gcs_uri: address };
}

type ResumableSubmission = Submission & { uploads: UploadStates };

/** Undefined where the service takes no uploads in pieces. */
async function submitInPieces(
  client: Client,
  recording: Recording,
  submission: ResumableSubmission,
): Promise<Transcription | undefined> {
  const { options, signal, uploads } = submission;
  for (let start = 0; ; start += 1) {
    try {
      const id = await upload(client, recording, submission);
      if (id === undefined) return undefined;
      const created = await client.createFrom({ upload_id: id }, options, {
        signal,
        idempotencyKey: keyFor(id, options),
      });
      uploads.forget(recording);
      return created;
    } catch (error) {
      if (!isGone(error)) throw error;
      uploads.forget(recording);
      if (start === FRESH_STARTS) throw error;
    }
  }
}

/** A run that died before it learned of its transcription is given the same one again. */
function keyFor(uploadId: string, options: RequestOptions): string {
  return createHash('sha256')
    .update(JSON.stringify([uploadId, options]))
    .digest('hex');
}

function isGone(error: unknown): boolean {
  if (error instanceof UploadGone) return true;
  return error instanceof ApiProblem && (error.problem.status === 404 || error.problem.status === 410);
}

/** @returns the id of the upload, once all of it is there */
async function upload(
  client: Client,
  recording: Recording,
  { uploads, signal, progress }: ResumableSubmission,
): Promise<string | undefined> {
  let kept = uploads.find(recording);
  let isResumed = kept !== undefined;
  const onProgress = (sentBytes: number) => {
    if (isResumed && sentBytes > 0) progress.note(`The upload goes on at ${formatBytes(sentBytes)}.`);
    isResumed = false;
    progress.uploaded(sentBytes, recording.sizeBytes);
  };
  const sending = { signal, onProgress };
  let isKept = kept !== undefined;
  if (kept === undefined) {
    kept = await start(client, recording, signal);
    if (kept === undefined) return undefined;
    isKept = await uploads.keep(recording, kept);
  }
  try {
    if (kept.kind === 'direct') {
      await sendDirect({ url: kept.url, headers: kept.headers, isResumed }, recording, sending);
    } else {
      const url = client.tusAddress(kept.upload_id);
      await sendTus({ server: client.server, url, headers: client.authorization }, recording, sending);
    }
    // Each piece is checked after its last byte, but its answer may be faster than that.
    await checkUnchanged(recording);
    return kept.upload_id;
  } catch (error) {
    if (error instanceof RecordingChanged) uploads.forget(recording);
    else if (isKept && !isGone(error)) {
      progress.note('The upload is not finished: the same command goes on where it stopped.');
    }
    throw error;
  }
}

/** Of a service that does not say. */
const LIFETIME_MS = 24 * 3_600_000;

/** The ways to upload in pieces, the best first. */
async function start(
  client: Client,
  { filename, sizeBytes }: Recording,
  signal: AbortSignal,
): Promise<KeptUpload | undefined> {
  const request = { filename, contentType: mediaTypeOfName(filename), sizeBytes };
  const direct = await client.startDirectUpload(request, signal);
  if (direct !== undefined) {
    const { upload_id, url, headers = {}, expires_at } = direct;
    return { kind: 'direct', upload_id, url, headers, expires_at };
  }
  const tus = await client.startTusUpload(request, signal);
  if (tus === undefined) return undefined;
  const expires_at = tus.expires_at ?? new Date(Date.now() + LIFETIME_MS).toISOString();
  return { kind: 'tus', upload_id: tus.upload_id, expires_at };
}
