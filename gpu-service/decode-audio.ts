import { open, rm, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type FfmpegExit, FfmpegFailed, type FfmpegLimits, startFfmpeg } from '../core/ffmpeg.ts';
import { ServiceError, toServiceError } from '../core/problem.ts';
import type { PcmFile } from './supervisor/protocol.ts';

const BYTES_PER_SAMPLE = 2;

/** An hour takes about a second. What it reads was made by ingest, so this only ends what hangs. */
const LIMITS: FfmpegLimits = {
  timeoutMs: 15 * 60_000,
  cpuSeconds: 10 * 60,
  memoryBytes: 2 ** 31,
  pipedBytes: 0,
  // 24 hours: what ingest lets through.
  fileBytes: 24 * 3600 * 16_000 * BYTES_PER_SAMPLE,
};

/**
 * The FLAC that ingest made → the file at `path` that the sidecar maps. ffmpeg writes it itself, and reads from here
 * so that it ends when this process does. On failure nothing is left at `path`.
 * @throws {ServiceError}, the error of `flac`, or the reason of `signal`
 */
export async function decodeAudio(
  flac: Readable,
  path: string,
  { ffmpegPath, signal }: { ffmpegPath: string; signal?: AbortSignal },
): Promise<PcmFile> {
  try {
    await decodeInto(path, flac, ffmpegPath, signal);
    const samples = (await stat(path)).size / BYTES_PER_SAMPLE;
    return { path, samples };
  } catch (error) {
    flac.destroy();
    await rm(path, { force: true });
    signal?.throwIfAborted();
    throw error;
  }
}

async function decodeInto(
  path: string,
  flac: Readable,
  ffmpegPath: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const stop = new AbortController();
  const anyStop = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const file = await openForWriting(path);
  let ffmpeg: ReturnType<typeof startFfmpeg>;
  try {
    ffmpeg = startFfmpeg(
      ffmpegPath,
      [
        ...['-protocol_whitelist', 'pipe', '-f', 'flac', '-i', 'pipe:0'],
        ...['-map', '0:a:0', '-c:a', 'pcm_s16le', '-f', 's16le', 'pipe:3'],
      ],
      { limits: LIMITS, outputs: [file.fd], hasInput: true, signal: anyStop },
    );
  } finally {
    await file.close();
  }
  // A source that fails looks to ffmpeg like the end of the audio, so it must not live to call that a success.
  const fed = pipeline(flac, ffmpeg.input as NodeJS.WritableStream).catch((error) => {
    if (flac.errored !== null) stop.abort(flac.errored);
    return error as Error;
  });
  const exit = await ffmpeg.exit;
  const feedError = await fed;
  if (stop.signal.aborted) throw stop.signal.reason;
  refuseFailed(exit);
  if (feedError instanceof Error) throw toServiceError(feedError);
}

async function openForWriting(path: string) {
  try {
    return await open(path, 'w');
  } catch (error) {
    throw toServiceError(error);
  }
}

function refuseFailed(exit: FfmpegExit): void {
  if (exit.end === 'exited' && exit.exitCode === 0) return;
  const cause = new FfmpegFailed(exit);
  if (/No space left on device|Disk quota exceeded/.test(exit.stderrTail)) {
    throw new ServiceError(
      'storage-full',
      'The disk of the worker is full. Nothing is lost: the job is tried again. Free some space there.',
      { cause },
    );
  }
  throw toServiceError(cause);
}
