import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { type RecordingFile, readRecording } from './recording-bytes.ts';
import { type Answer, sendBody } from './send-body.ts';
import type { Sending } from './send-tus.ts';
import { ApiProblem, explainFailure, isPassing, ServiceUnreachable } from './service-errors.ts';
import { hasEnded, UploadGone } from './upload-gone.ts';

export interface DirectTarget {
  /** Whoever knows it may write: the key of the service has no business here. */
  url: string;
  headers: Readonly<Record<string, string>>;
  isResumed: boolean;
}

/** Each piece costs a round trip, and Cloud Storage keeps the whole 256 KiB of one that breaks off. */
const PIECE_BYTES = 64 * 1024 * 1024;
const RETRY_DELAYS_MS = [0, 1_000, 3_000, 5_000, 10_000, 20_000, 30_000];
const IDLE_TIMEOUT_MS = 60_000;

/**
 * Sends what a resumable session of Cloud Storage does not have yet, through every disturbance that passes.
 * @throws {UploadGone} @throws {RecordingUnreadable}
 */
export async function sendDirect(
  target: DirectTarget,
  file: RecordingFile,
  { signal, onProgress }: Sending,
): Promise<void> {
  const server = new URL(target.url).origin;
  const total = file.sizeBytes;

  const put = async (range: string, start = 0, end = 0): Promise<number> => {
    const piece = async function* () {
      let sentBytes = start;
      for await (const bytes of readRecording(file, start, end)) {
        yield bytes;
        sentBytes += bytes.length;
        onProgress(sentBytes);
      }
    };
    try {
      const answer = await sendBody(target.url, {
        method: 'PUT',
        headers: {
          ...target.headers,
          'content-length': end - start,
          'content-range': `bytes ${range}/${total}`,
        },
        ...(end > start && { body: Readable.from(piece(), { objectMode: false }) }),
        idleTimeoutMs: IDLE_TIMEOUT_MS,
        signal,
      });
      return storedBytes(answer, total);
    } catch (error) {
      throw explainFailure(server, error, signal);
    }
  };

  /** Undefined: only the other side knows. */
  let stored: number | undefined = target.isResumed ? undefined : 0;
  let mostStored = 0;
  let failures = 0;
  while (stored !== total) {
    try {
      if (stored === undefined) stored = await put('*');
      else {
        const end = Math.min(stored + PIECE_BYTES, total);
        stored = await put(`${stored}-${end - 1}`, stored, end);
      }
      onProgress(stored);
      if (stored > mostStored) {
        mostStored = stored;
        failures = 0;
      }
    } catch (error) {
      const delayMs = isPassing(error) ? RETRY_DELAYS_MS[failures] : undefined;
      if (delayMs === undefined) throw error;
      failures += 1;
      stored = undefined;
      await delay(delayMs, undefined, { signal }).catch(() => {
        throw signal.reason;
      });
    }
  }
}

/** @returns `total` only when the object is there */
function storedBytes({ status, headers, text }: Answer, total: number): number {
  if (status === 200 || status === 201) return total;
  if (hasEnded(status)) throw new UploadGone();
  if (status === 308) {
    const last = /^bytes=0-(\d+)$/.exec(String(headers.range ?? ''))?.[1];
    const stored = last === undefined ? 0 : Number(last) + 1;
    if (stored < total) return stored;
  }
  const mayPass = status === 308 || status === 408 || status === 429 || status >= 500;
  if (mayPass) {
    throw new ServiceUnreachable(`The storage answered with status ${status}. Run the command again later.`, {
      mayPass,
    });
  }
  throw new ApiProblem({
    type: 'about:blank',
    title: 'The storage refused the upload',
    status,
    detail: `It answered with status ${status}: ${text.slice(0, 200)}`,
  });
}
