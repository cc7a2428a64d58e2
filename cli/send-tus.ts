import { Readable } from 'node:stream';
import { DetailedError, type HttpRequest, Upload } from 'tus-js-client';
import { type RecordingFile, RecordingUnreadable, readRecording } from './recording-bytes.ts';
import { ApiProblem, explainFailure, readProblem } from './service-errors.ts';
import { hasEnded, UploadGone } from './upload-gone.ts';

export interface Sending {
  signal: AbortSignal;
  /** How much of the file the other side has, or is being sent. */
  onProgress(sentBytes: number): void;
}

export interface TusTarget {
  /** For messages. */
  server: string;
  url: string;
  headers: Readonly<Record<string, string>>;
}

const CHUNK_BYTES = 16 * 1024 * 1024;
/** They begin anew whenever something got through: together a service that restarts has a minute for it. */
const RETRY_DELAYS_MS = [0, 1_000, 3_000, 5_000, 10_000, 20_000, 30_000];
const IDLE_TIMEOUT_MS = 60_000;
/** The answers of a lock that another has, and of a piece that came after all: ask where we are, and go on. */
const ASK_AGAIN = new Set([409, 423, 429]);

/**
 * Sends what the upload does not have yet, by the tus protocol, through every disturbance that passes.
 * @throws {UploadGone} @throws {RecordingUnreadable}
 */
export async function sendTus(
  target: TusTarget,
  file: RecordingFile,
  { signal, onProgress }: Sending,
): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let request: HttpRequest | undefined;
  let movedAtMs = performance.now();
  const moved = () => {
    movedAtMs = performance.now();
  };
  const upload = new Upload(Buffer.alloc(1), {
    // Without an `endpoint`: with one, the client answers a 503 of a proxy by uploading everything again.
    uploadUrl: target.url,
    headers: { ...target.headers },
    chunkSize: CHUNK_BYTES,
    retryDelays: RETRY_DELAYS_MS,
    // We remember uploads ourselves.
    storeFingerprintForResuming: false,
    fingerprint: async () => target.url,
    // Its own reads past changes of the file, and a read error in it ends the process.
    fileReader: {
      openFile: async () => ({
        size: file.sizeBytes,
        slice: async (start, end) => ({ value: body(start, end), done: end >= file.sizeBytes }),
        close() {},
      }),
    },
    onBeforeRequest(next) {
      moved();
      request = next;
    },
    onAfterResponse: moved,
    onShouldRetry(error) {
      const status = statusOf(error);
      return status === undefined || status >= 500 || ASK_AGAIN.has(status);
    },
    onProgress(sentBytes) {
      moved();
      onProgress(sentBytes);
    },
    onSuccess: () => resolve(),
    onError: (error) => reject(explain(target.server, error)),
  });

  const giveUp = (reason: unknown) => {
    upload.abort().catch(() => {});
    reject(reason);
  };
  let bytes: Readable | undefined;
  const body = (start: number, end: number) => {
    // Of a request that broke off, nobody else closes the file.
    bytes?.destroy();
    bytes = Readable.from(readRecording(file, start, end), { objectMode: false });
    bytes.once('error', giveUp);
    return Object.assign(bytes, { size: end - start });
  };
  const onAbort = () => giveUp(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  // The client itself would wait for ever on a connection that died silently.
  const watch = setInterval(() => {
    if (performance.now() - movedAtMs < IDLE_TIMEOUT_MS) return;
    moved();
    request?.getUnderlyingObject()?.destroy(Object.assign(new Error('nothing moved'), { code: 'ETIMEDOUT' }));
  }, 1_000);
  try {
    upload.start();
    await promise;
  } finally {
    clearInterval(watch);
    bytes?.destroy();
    signal.removeEventListener('abort', onAbort);
  }
}

function statusOf(error: Error): number | undefined {
  return error instanceof DetailedError ? error.originalResponse?.getStatus() : undefined;
}

function explain(server: string, error: Error): unknown {
  const status = statusOf(error);
  if (status === undefined) {
    const cause = error instanceof DetailedError ? (error.causingError ?? error) : error;
    return cause instanceof RecordingUnreadable ? cause : explainFailure(server, cause);
  }
  if (hasEnded(status)) return new UploadGone();
  const answer = (error as DetailedError).originalResponse?.getBody() ?? '';
  return new ApiProblem(readProblem(status, answer));
}
