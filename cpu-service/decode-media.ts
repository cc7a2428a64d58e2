import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { type FfmpegExit, FfmpegFailed, type FfmpegLimits, startFfmpeg } from '../core/ffmpeg.ts';
import { ServiceError, toServiceError } from '../core/problem.ts';
import { FLAC_BLOCK_SAMPLES, FlacLength } from './flac-length.ts';
import { type AudioTrack, MediaReport } from './media-report.ts';

/** What every engine reads: the rate Whisper was trained at. */
export const SAMPLE_RATE = 16_000;

/**
 * Nobody says a word in less. It is also ten steps of Whisper's spectrogram, and more than the 62 ms that the first
 * layers of the speech detector look at to give anything at all.
 */
export const MIN_DURATION_SECONDS = 0.1;

const GIB = 2 ** 30;

/** Ten minutes of audio take about a second and a half of CPU time, so a day of it fits with room to spare. */
export const DECODE_LIMITS: FfmpegLimits = {
  timeoutMs: 20 * 60_000,
  cpuSeconds: 20 * 60,
  memoryBytes: 2 * GIB,
  // 24 hours in which nothing can be compressed, as FLAC and as MP3.
  pipedBytes: 24 * 3600 * (SAMPLE_RATE * 2 + 8000),
  fileBytes: 0,
};

/** In one piece, for example for the index of an mp4; ten hours need about 10 MB. */
const MAX_ALLOCATION_BYTES = GIB / 4;

/**
 * Recordings and nothing else. Playlists, image sequences, session descriptions and scripts name other files, which
 * a user could make us read; they are left out, as is what has no header and would decode any bytes into noise.
 */
const CONTAINERS =
  'aac,ac3,aiff,amr,ape,asf,au,avi,caf,dss,dts,eac3,flac,flv,loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,tak,tta,voc,w64,wav,wv';

/**
 * An MP3 decoder starts 1105 samples late, and without a Xing header (which needs a file to go back in) no player
 * knows. Leaving out as many at the start lets the copy play in time with the words.
 */
const MP3_DELAY_SAMPLES = 1105;
const MP3_BYTES_PER_SECOND = 64_000 / 8;

/**
 * Takes the whole stream to where it is kept, and settles when that is done. When decoding fails the stream fails,
 * and nothing may be kept.
 */
export type Sink = (body: Readable) => Promise<unknown>;

export interface DecodedMedia {
  /** Counted in decoded samples. */
  durationSeconds: number;
  /** Of the audio, at 16 kHz. */
  samples: number;
  track: AudioTrack;
  /** ffmpeg complained while decoding: some of the audio may be missing. */
  isDamaged: boolean;
}

/**
 * Any media → 16 kHz mono FLAC for the engines, and a small constant-rate MP3 for a player, in one pass and without
 * touching the disk. The samples are those of stock WhisperX's own `load_audio`. Memory does not grow with the media.
 * Whatever happens, no process is left when this settles; a sink that had finished before the other one failed has
 * kept its stream.
 * @throws {ServiceError} or the reason of `signal`
 */
export async function decodeMedia(
  { path, audioTrack = 0 }: { path: string; audioTrack?: number },
  sinks: { audio: Sink; playback: Sink },
  {
    ffmpegPath,
    limits = DECODE_LIMITS,
    signal,
    onProgress,
  }: {
    ffmpegPath: string;
    limits?: FfmpegLimits;
    signal?: AbortSignal;
    /** `fraction` is null as long as the container does not say how long it is. */
    onProgress?: (progress: { decodedSeconds: number; fraction: number | null }) => void;
  },
): Promise<DecodedMedia> {
  await refuseEmpty(path);
  const stop = new AbortController();
  const anyStop = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);

  const report = new MediaReport();
  const ffmpeg = startFfmpeg(ffmpegPath, decodeArguments(path, audioTrack), {
    limits,
    outputs: ['pipe', 'pipe'],
    signal: anyStop,
    onLogLine: (line) => report.read(line),
  });
  const [flac, mp3] = ffmpeg.pipes as [AsyncIterable<Buffer>, AsyncIterable<Buffer>];

  // Both streams end only after this: a sink that sees the end may trust what it got.
  const flacLength = new FlacLength();
  const flacRead = Promise.withResolvers<void>();
  const verdict = new Promise<DecodedMedia>((resolve, reject) => {
    anyStop.addEventListener('abort', () => reject(anyStop.reason), { once: true });
    ffmpeg.exit
      .then(async (exit) => {
        refuseFailed(exit, report, audioTrack);
        await flacRead.promise;
        resolve(judge(flacLength.samples, exit, report, audioTrack));
      })
      .catch(reject);
  });

  async function* withVerdict(
    pipe: AsyncIterable<Buffer>,
    onChunk: (chunk: Buffer) => void,
    onEnd?: () => void,
  ) {
    try {
      for await (const chunk of pipe) {
        onChunk(chunk);
        yield chunk;
      }
    } catch (error) {
      // It is because ffmpeg failed, and the verdict says why. If not, what we have is not whole.
      const { end, exitCode } = await ffmpeg.exit;
      if (end === 'exited' && exitCode === 0) stop.abort(error);
    }
    onEnd?.();
    await verdict;
  }

  let mp3Bytes = 0;
  const audio = Readable.from(
    withVerdict(flac, (chunk) => flacLength.push(chunk), flacRead.resolve),
    {
      objectMode: false,
    },
  );
  const playback = Readable.from(
    withVerdict(mp3, (chunk) => {
      mp3Bytes += chunk.length;
      const decodedSeconds = mp3Bytes / MP3_BYTES_PER_SECOND;
      const { declaredSeconds } = report;
      const fraction = declaredSeconds ? Math.min(1, decodedSeconds / declaredSeconds) : null;
      onProgress?.({ decodedSeconds, fraction });
    }),
    { objectMode: false },
  );
  verdict.catch((error) => {
    for (const body of [audio, playback]) {
      body.on('error', () => {});
      body.destroy(error);
    }
  });

  async function fill(sink: Sink, body: Readable): Promise<void> {
    try {
      await sink(body);
      if (!body.readableEnded) throw new Error('a sink returned before the end of its stream');
    } catch (error) {
      stop.abort(error);
      throw error;
    }
  }
  const results = await Promise.allSettled([
    verdict,
    fill(sinks.audio, audio),
    fill(sinks.playback, playback),
  ]);
  await ffmpeg.exit.catch(() => {});
  signal?.throwIfAborted();
  const failure = results.find((result) => result.status === 'rejected');
  if (failure !== undefined) throw toServiceError(failure.reason);
  return verdict;
}

function decodeArguments(path: string, audioTrack: number): string[] {
  const input = [
    ['-max_alloc', `${MAX_ALLOCATION_BYTES}`, '-protocol_whitelist', 'file', '-format_whitelist', CONTAINERS],
    // An audio decoder is no faster with more threads, and each would reserve memory.
    ['-threads', '1', '-i', `file:${path}`],
  ];
  // Resampled once for both, in the way in which `-ac 1 -ar 16000 -acodec pcm_s16le` does it.
  const graph =
    `[0:a:${audioTrack}]aformat=sample_fmts=s16:sample_rates=${SAMPLE_RATE}:channel_layouts=mono,asplit[flac][all];` +
    `[all]apad=pad_len=${MP3_DELAY_SAMPLES},atrim=start_sample=${MP3_DELAY_SAMPLES}[mp3]`;
  // Titles, places and chapters of the user's file are not for everybody who gets a copy.
  const plain = ['-map_metadata', '-1', '-map_chapters', '-1', '-fflags', '+bitexact', '-flags', '+bitexact'];
  // Level 3 takes a fifth less space than level 0, and no longer.
  const flac = ['-c:a', 'flac', '-compression_level', '3', '-frame_size', `${FLAC_BLOCK_SAMPLES}`];
  // Level 7 takes less than half the time of level 2.
  const mp3 = ['-c:a', 'libmp3lame', '-b:a', '64k', '-compression_level', '7', '-write_xing', '0'];
  return [
    ...input.flat(),
    '-filter_complex',
    graph,
    ...['-map', '[flac]', ...plain, ...flac, '-flush_packets', '0', '-f', 'flac', 'pipe:3'],
    ...[
      '-map',
      '[mp3]',
      ...plain,
      ...mp3,
      '-flush_packets',
      '0',
      '-id3v2_version',
      '0',
      '-f',
      'mp3',
      'pipe:4',
    ],
  ];
}

async function refuseEmpty(path: string): Promise<void> {
  let sizeBytes: number;
  try {
    sizeBytes = (await stat(path)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw toServiceError(error);
    throw new ServiceError('media-gone', 'The stored media is no longer there. Upload it again.', {
      cause: error,
    });
  }
  if (sizeBytes === 0) {
    throw new ServiceError('media-empty', 'The file has 0 bytes. Check the recording, then upload it again.');
  }
}

const UNREADABLE =
  'This is no recording that can be decoded: its format is unknown or it is damaged. Check that it plays, or ' +
  'convert it to WAV, MP3, M4A or FLAC, then upload it again.';

/** Signals by which a program ends that a broken file has led astray. */
const CRASHES: readonly (NodeJS.Signals | null)[] = ['SIGSEGV', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGILL'];

function refuseFailed(exit: FfmpegExit, report: MediaReport, audioTrack: number): void {
  if (exit.end === 'exited' && exit.exitCode === 0) return;
  const cause = new FfmpegFailed(exit);
  switch (exit.end) {
    case 'timeout':
    case 'cpu-limit':
      throw limitExceeded('time', cause);
    case 'memory-limit':
      throw limitExceeded('memory', cause);
    case 'output-limit':
      throw limitExceeded('space: it is longer than what one job may hold', cause);
  }
  // 126 and 127 are the shell's: there was no ffmpeg to run.
  const isOurFault = exit.exitCode === 126 || exit.exitCode === 127;
  if (isOurFault || (exit.signal !== null && !CRASHES.includes(exit.signal))) throw toServiceError(cause);
  if (report.streams > 0 && report.audioTracks.length === 0) {
    throw new ServiceError(
      'media-without-audio',
      'The file has no audio track. Check that the recording was made with sound, then upload it again.',
      { cause },
    );
  }
  if (report.streams > 0 && audioTrack >= report.audioTracks.length) {
    throw new ServiceError(
      'invalid-option',
      `audio_track is ${audioTrack}, but the file has ${report.audioTracks.length} (counted from 0).`,
      { cause, extensions: { field: 'audio_track' } },
    );
  }
  if (report.isWithoutIndex) {
    throw new ServiceError(
      'media-unreadable',
      'The file is incomplete: its index (moov), which is written last, is missing. Transfer the recording again ' +
        'or repair it, then upload it again.',
      { cause },
    );
  }
  throw new ServiceError('media-unreadable', UNREADABLE, { cause });
}

function limitExceeded(what: string, cause: FfmpegFailed): ServiceError {
  return new ServiceError(
    'decode-limit-exceeded',
    `Decoding the file took too much ${what}. Convert it to MP3 or FLAC, or split it, then upload it again.`,
    { cause },
  );
}

function judge(samples: number, exit: FfmpegExit, report: MediaReport, audioTrack: number): DecodedMedia {
  const durationSeconds = samples / SAMPLE_RATE;
  if (durationSeconds < MIN_DURATION_SECONDS) {
    if (report.hasErrors)
      throw new ServiceError('media-unreadable', UNREADABLE, { cause: new FfmpegFailed(exit) });
    throw new ServiceError(
      'media-too-short',
      `The audio lasts ${durationSeconds.toFixed(3)} s, and at least ${MIN_DURATION_SECONDS} s are needed. Check ` +
        'that the whole recording was uploaded.',
    );
  }
  const track = report.audioTracks[audioTrack] ?? { codec: 'unknown', channels: null, sampleRate: null };
  return { durationSeconds, samples, track, isDamaged: report.hasDecodeErrors };
}
