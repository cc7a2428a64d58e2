import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { FfmpegFailed, type FfmpegLimits, startFfmpeg } from '../../core/ffmpeg.ts';
import { toServiceError } from '../../core/problem.ts';
import { SAMPLE_RATE } from '../../core/sample-rate.ts';

export const BYTES_PER_SAMPLE = 2;

/** An hour takes about a second, and whoever reads may store it meanwhile. What it reads was made by ingest. */
export const AUDIO_LIMITS: FfmpegLimits = {
  timeoutMs: 20 * 60_000,
  cpuSeconds: 10 * 60,
  memoryBytes: 2 ** 31,
  // As long as ingest lets through.
  pipedBytes: 25 * 3_600 * SAMPLE_RATE * BYTES_PER_SAMPLE,
  fileBytes: 0,
};

/** Opens a FLAC that ingest made, or a piece of one. */
export type OpenAudio = () => Promise<Readable>;

export interface Decoding {
  ffmpegPath: string;
  signal: AbortSignal;
}

/**
 * A FLAC as 16-bit samples, as they are decoded. No process is left when the reader stops, or when it fails.
 * @throws {ServiceError}, the error of the source, or the reason of `signal`
 */
export async function* readPcm(
  openAudio: OpenAudio,
  { ffmpegPath, signal }: Decoding,
): AsyncGenerator<Buffer> {
  const flac = await openAudio();
  const stop = new AbortController();
  try {
    const ffmpeg = startFfmpeg(
      ffmpegPath,
      [
        ...['-protocol_whitelist', 'pipe', '-f', 'flac', '-i', 'pipe:0'],
        ...['-map', '0:a:0', '-c:a', 'pcm_s16le', '-f', 's16le', 'pipe:3'],
      ],
      {
        limits: AUDIO_LIMITS,
        input: 'pipe',
        outputs: ['pipe'],
        signal: AbortSignal.any([signal, stop.signal]),
      },
    );
    try {
      const input = ffmpeg.input as Writable;
      // A source that fails looks to ffmpeg like the end of the audio. One that fails because ffmpeg is gone is no cause.
      let sourceError: Error | undefined;
      flac.on('error', (error) => {
        if (input.errored === null) sourceError = error;
      });
      pipeline(flac, input).catch(() => {});
      let readError: unknown;
      try {
        yield* ffmpeg.pipes[0] as AsyncIterable<Buffer>;
      } catch (error) {
        readError = error;
      }
      const exit = await ffmpeg.exit;
      signal.throwIfAborted();
      if (sourceError !== undefined) throw sourceError;
      if (exit.end !== 'exited' || exit.exitCode !== 0) throw toServiceError(new FfmpegFailed(exit));
      if (readError !== undefined) throw readError;
      if (!flac.readableEnded) throw new Error('ffmpeg ended before its input did', { cause: exit });
    } finally {
      stop.abort();
      await ffmpeg.exit.catch(() => {});
    }
  } finally {
    flac.destroy();
  }
}
