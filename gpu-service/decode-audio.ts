import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type FfmpegExit, FfmpegFailed, type FfmpegLimits, startFfmpeg } from '../core/ffmpeg.ts';
import { ServiceError, toServiceError } from '../core/problem.ts';
import { SAMPLE_RATE } from '../core/sample-rate.ts';
import type { PcmFile } from './supervisor/protocol.ts';

const { O_APPEND, O_CREAT, O_TRUNC, O_WRONLY } = constants;

const BYTES_PER_SAMPLE = 2;

/** An hour takes about a second. What it reads was made by ingest, so this only ends what hangs. */
const LIMITS: FfmpegLimits = {
  timeoutMs: 15 * 60_000,
  cpuSeconds: 10 * 60,
  memoryBytes: 2 ** 31,
  pipedBytes: 0,
  // 24 hours of all channels together: what ingest lets through. The hour is for the gaps between them.
  fileBytes: 25 * 3600 * SAMPLE_RATE * BYTES_PER_SAMPLE,
};

/** Longer than the longest chunk that the models hear at once (30 s), so that none spans two channels. */
const CHANNEL_GAP_SAMPLES = 31 * SAMPLE_RATE;

/** Every channel of a recording, one after the other with silence in between: to the models one long recording. */
export interface DecodedAudio {
  pcm: PcmFile;
  /** Where each channel begins. */
  channelStarts: number[];
  /** Of one channel; all are equally long. */
  durationSeconds: number;
}

/** Opens what ingest made of one channel, or of the mix of all. */
export type OpenAudio = () => Promise<Readable>;

/**
 * The FLACs that ingest made → the file at `path` that the sidecar maps. ffmpeg writes it itself, and reads from here
 * so that it ends when this process does. On failure nothing is left at `path`.
 * @throws {ServiceError}, the error of a FLAC, or the reason of `signal`
 */
export async function decodeAudio(
  channels: readonly OpenAudio[],
  path: string,
  { ffmpegPath, signal }: { ffmpegPath: string; signal?: AbortSignal },
): Promise<DecodedAudio> {
  const starts: number[] = [];
  let samples = 0;
  try {
    await using file = await openForWriting(path);
    for (const openFlac of channels) {
      if (starts.length > 0) {
        samples += CHANNEL_GAP_SAMPLES;
        // A hole in the file: silence that takes no space.
        await file.truncate(samples * BYTES_PER_SAMPLE);
      }
      starts.push(samples / SAMPLE_RATE);
      await decodeOnto(file, openFlac, ffmpegPath, signal);
      samples = (await file.stat()).size / BYTES_PER_SAMPLE;
    }
    const durationSeconds = samples / SAMPLE_RATE - (starts.at(-1) ?? 0);
    return { pcm: { path, samples }, channelStarts: starts, durationSeconds };
  } catch (error) {
    await rm(path, { force: true });
    signal?.throwIfAborted();
    throw error;
  }
}

/** Adds the samples to the end of the file. */
async function decodeOnto(
  file: FileHandle,
  openFlac: OpenAudio,
  ffmpegPath: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const flac = await openFlac();
  try {
    const ffmpeg = startFfmpeg(
      ffmpegPath,
      [
        ...['-protocol_whitelist', 'pipe', '-f', 'flac', '-i', 'pipe:0'],
        ...['-map', '0:a:0', '-c:a', 'pcm_s16le', '-f', 's16le', 'pipe:3'],
      ],
      { limits: LIMITS, outputs: [file.fd], input: 'pipe', ...(signal === undefined ? {} : { signal }) },
    );
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
  } finally {
    flac.destroy();
  }
}

async function openForWriting(path: string) {
  try {
    // Each ffmpeg adds to the end, wherever the one before it stopped.
    return await open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
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
