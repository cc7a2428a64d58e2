import { open, rm, stat } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  type Ffmpeg,
  type FfmpegExit,
  FfmpegFailed,
  type FfmpegLimits,
  startFfmpeg,
} from '../core/ffmpeg.ts';
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
  const file = await openForWriting(path);
  let ffmpeg: Ffmpeg;
  try {
    ffmpeg = startFfmpeg(
      ffmpegPath,
      [
        ...['-protocol_whitelist', 'pipe', '-f', 'flac', '-i', 'pipe:0'],
        ...['-map', '0:a:0', '-c:a', 'pcm_s16le', '-f', 's16le', 'pipe:3'],
      ],
      { limits: LIMITS, outputs: [file.fd], hasInput: true, ...(signal === undefined ? {} : { signal }) },
    );
  } finally {
    await file.close();
  }
  const input = ffmpeg.input as Writable;
  // A source that fails looks to ffmpeg like the end of the audio. One that fails because ffmpeg is gone is no cause.
  let sourceError: Error | undefined;
  flac.on('error', (error) => {
    if (input.errored === null) sourceError = error;
  });
  pipeline(flac, input).catch(() => {});

  const exit = await ffmpeg.exit;
  signal?.throwIfAborted();
  if (sourceError !== undefined) throw sourceError;
  refuseFailed(exit);
  if (!flac.readableEnded) throw new Error('ffmpeg ended before its input did', { cause: exit });
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
