import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { FfmpegFailed, startFfmpeg } from '../../core/ffmpeg.ts';
import { toServiceError } from '../../core/problem.ts';
import { SAMPLE_RATE } from '../../core/sample-rate.ts';
import { flacWithSampleCount } from './flac-header.ts';
import { Frames } from './frames.ts';
import { type CutWindow, QuietCuts } from './quiet-cuts.ts';
import { AUDIO_LIMITS, BYTES_PER_SAMPLE, type Decoding, type OpenAudio, readPcm } from './read-pcm.ts';

/** Part of one recording, in samples. */
export interface Stretch {
  from: number;
  to: number;
}

/**
 * The audio in pieces, cut at the quietest place in each window. Each piece is given to `store` as a FLAC; they come
 * one after the other, and memory grows neither with them nor with the recording, which is decoded twice for that.
 */
export async function cutAudio(
  openAudio: OpenAudio,
  windows: readonly CutWindow[],
  store: (flac: Readable, index: number) => Promise<unknown>,
  decoding: Decoding,
): Promise<Stretch[]> {
  const { cuts, samples } = await findCuts(openAudio, windows, decoding);
  const borders = [0, ...cuts, samples];
  const stretches = borders.slice(1).map((to, index) => ({ from: borders[index] as number, to }));
  const pcm = readPcm(openAudio, decoding);
  try {
    const splitter = new Splitter(pcm);
    for (const [index, { from, to }] of stretches.entries()) {
      const taken = splitter.take((to - from) * BYTES_PER_SAMPLE);
      const flac = encodeFlac(taken, to - from, decoding);
      await store(Readable.from(flac, { objectMode: false }), index);
    }
  } finally {
    await pcm.return(undefined);
  }
  return stretches;
}

async function findCuts(
  openAudio: OpenAudio,
  windows: readonly CutWindow[],
  decoding: Decoding,
): Promise<{ cuts: readonly number[]; samples: number }> {
  const quiet = new QuietCuts(windows);
  const frames = new Frames((energy) => quiet.add(energy));
  let bytes = 0;
  for await (const pcm of readPcm(openAudio, decoding)) {
    frames.push(pcm);
    bytes += pcm.length;
  }
  return { cuts: quiet.cuts, samples: Math.floor(bytes / BYTES_PER_SAMPLE) };
}

/** Gives out a stream of bytes in parts of known sizes. */
class Splitter {
  readonly #source: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterator<Buffer>) {
    this.#source = source;
  }

  async *take(bytes: number): AsyncGenerator<Buffer> {
    for (let missing = bytes; missing > 0; ) {
      if (this.#rest.length === 0) {
        const next = await this.#source.next();
        if (next.done === true) throw new Error('the audio has become shorter');
        this.#rest = next.value;
      }
      const part = this.#rest.subarray(0, missing);
      this.#rest = this.#rest.subarray(part.length);
      missing -= part.length;
      yield part;
    }
  }
}

async function* encodeFlac(
  pcm: AsyncIterable<Buffer>,
  samples: number,
  { ffmpegPath, signal }: Decoding,
): AsyncGenerator<Buffer> {
  const stop = new AbortController();
  const ffmpeg = startFfmpeg(
    ffmpegPath,
    [
      ...['-protocol_whitelist', 'pipe', '-f', 's16le', '-ar', `${SAMPLE_RATE}`, '-ac', '1', '-i', 'pipe:0'],
      ...['-c:a', 'flac', '-f', 'flac', 'pipe:3'],
    ],
    {
      limits: AUDIO_LIMITS,
      input: 'pipe',
      outputs: ['pipe'],
      signal: AbortSignal.any([signal, stop.signal]),
    },
  );
  let sourceError: unknown;
  const fed = pipeline(
    Readable.from(pcm, { objectMode: false }).on('error', (error) => {
      sourceError ??= error;
    }),
    ffmpeg.input as Writable,
  ).catch(() => {});
  try {
    yield* flacWithSampleCount(ffmpeg.pipes[0] as AsyncIterable<Buffer>, samples);
    const exit = await ffmpeg.exit;
    await fed;
    signal.throwIfAborted();
    if (sourceError !== undefined) throw sourceError;
    if (exit.end !== 'exited' || exit.exitCode !== 0) throw toServiceError(new FfmpegFailed(exit));
  } finally {
    stop.abort();
    await ffmpeg.exit.catch(() => {});
  }
}
