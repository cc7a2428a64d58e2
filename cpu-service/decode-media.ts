import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { type FfmpegExit, FfmpegFailed, type FfmpegLimits, startFfmpeg } from '../core/ffmpeg.ts';
import { ServiceError, toServiceError } from '../core/problem.ts';
import { SAMPLE_RATE } from '../core/sample-rate.ts';
import { FLAC_BLOCK_SAMPLES, FlacLength } from './flac-length.ts';
import { type AudioTrack, MediaReport } from './media-report.ts';

/**
 * Nobody says a word in less. It is also ten steps of Whisper's spectrogram, and more than the 62 ms that the first
 * layers of the speech detector look at to give anything at all.
 */
export const MIN_DURATION_SECONDS = 0.1;

const GIB = 2 ** 30;

export interface DecodeLimits extends FfmpegLimits {
  /** Of all channels that are kept, together. Silence takes next to no space, and all the more time later. */
  audioSeconds: number;
}

const DAY_SECONDS = 24 * 3600;

/** Ten minutes of audio take about a second and a half of CPU time, so a day of it fits with room to spare. */
export const DECODE_LIMITS: DecodeLimits = {
  timeoutMs: 20 * 60_000,
  cpuSeconds: 20 * 60,
  memoryBytes: 2 * GIB,
  // A day in which nothing can be compressed, as FLAC and as MP3.
  pipedBytes: DAY_SECONDS * (SAMPLE_RATE * 2 + 8000),
  fileBytes: 0,
  audioSeconds: DAY_SECONDS,
};

/** Each has an encoder, a pipe and a blob of its own. The common kinds of surround sound have no more. */
export const MAX_CHANNELS = 8;

/** In one piece, for example for the index of an mp4; ten hours need about 10 MB. */
const MAX_ALLOCATION_BYTES = GIB / 4;

/**
 * Recordings and nothing else. Playlists, image sequences, session descriptions and scripts name other files, which
 * a user could make us read; they are left out, as is what has no header and would decode any bytes into noise.
 */
const CONTAINERS =
  'aac,ac3,aiff,amr,ape,asf,au,avi,caf,dss,dts,eac3,flac,flv,loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,tak,tta,voc,w64,wav,wv';

/**
 * What can be in them, as far as it is sound. ffmpeg decodes a little of every stream to learn what it is, and video,
 * pictures and subtitles are most of what can be attacked in it; their streams are only stepped over.
 */
const DECODERS = [
  'aac,aac_fixed,aac_latm,ac3,ac3_fixed,alac,als,amrnb,amrwb,ape,atrac1,atrac3,atrac3plus,dca,dss_sp,dvaudio,eac3,evrc,flac',
  'g723_1,g729,gsm,gsm_ms,ilbc,imc,libopencore_amrnb,libopencore_amrwb,libopus,libspeex,libvorbis,mace3,mace6,mlp',
  'mp1,mp1float,mp2,mp2float,mp3,mp3adu,mp3adufloat,mp3float,mp3on4,mp3on4float,mpc7,mpc8,nellymoser,on2avc,opus',
  'qcelp,qdm2,qdmc,s302m,speex,tak,truehd,truespeech,tta,vorbis,wavpack,wmalossless,wmapro,wmav1,wmav2,wmavoice',
  'adpcm_ima_amv,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_sbpro_2,adpcm_sbpro_3,adpcm_sbpro_4,adpcm_swf,adpcm_yamaha',
  'g722,g726,g726le,pcm_alaw,pcm_bluray,pcm_dvd,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be',
  'pcm_s16be_planar,pcm_s16le,pcm_s16le_planar,pcm_s24be,pcm_s24daud,pcm_s24le,pcm_s24le_planar,pcm_s32be,pcm_s32le',
  'pcm_s32le_planar,pcm_s64be,pcm_s64le,pcm_s8,pcm_s8_planar,pcm_u16be,pcm_u16le,pcm_u24be,pcm_u24le,pcm_u32be,pcm_u32le',
  'pcm_u8',
].join(',');

/** Each takes memory before a byte of sound was read. A whole satellite transponder has about a hundred. */
const MAX_STREAMS = 256;

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

export interface DecodeSinks {
  /** Called once for the mix, or for each channel at the same time; `channel` counts from 0. */
  audio: (body: Readable, channel: number) => Promise<unknown>;
  playback: Sink;
}

export interface DecodeOptions {
  ffmpegPath: string;
  limits?: DecodeLimits;
  signal?: AbortSignal;
  /** `declaredSeconds` is null as long as the container does not say how long it is, and may be wrong. */
  onProgress?: (progress: { decodedSeconds: number; declaredSeconds: number | null }) => void;
}

export interface DecodedMedia {
  /** Counted in decoded samples. */
  durationSeconds: number;
  /** Of each audio, at 16 kHz. */
  samples: number;
  /** How many audios were made: 1 for a mix. */
  channels: number;
  track: AudioTrack;
  /** ffmpeg complained while decoding: some of the audio may be missing. */
  isDamaged: boolean;
}

/**
 * Any media → 16 kHz mono FLAC for the engines (one, or one for each channel, all of the same length), and a small
 * constant-rate MP3 of the mix for a player, in one pass and without touching the disk. The samples are those of stock
 * WhisperX's own `load_audio`; those of a channel are what it would hear in a mono file of that channel alone. Memory
 * does not grow with the media. Whatever happens, no process is left when this settles; a sink that had finished
 * before another one failed has kept its stream.
 * @throws {ServiceError} or the reason of `signal`
 */
export async function decodeMedia(
  {
    path,
    audioTrack = 0,
    channels = 'mix',
  }: { path: string; audioTrack?: number; channels?: 'mix' | 'separate' },
  sinks: DecodeSinks,
  options: DecodeOptions,
): Promise<DecodedMedia> {
  await using media = await openMedia(path);
  const source = { fd: media.fd, audioTrack };
  const channelCount = channels === 'mix' ? 1 : await countChannels(source, options);
  return await decodeFrom(source, channelCount, sinks, options);
}

interface Source {
  fd: number;
  audioTrack: number;
}

async function decodeFrom(
  source: Source,
  channelCount: number,
  sinks: DecodeSinks,
  { ffmpegPath, limits = DECODE_LIMITS, signal, onProgress }: DecodeOptions,
): Promise<DecodedMedia> {
  const stop = new AbortController();
  const anyStop = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);

  const report = new MediaReport();
  const outputs = Array.from({ length: channelCount + 1 }, () => 'pipe' as const);
  const ffmpeg = startFfmpeg(ffmpegPath, decodeArguments(source.audioTrack, channelCount), {
    limits,
    input: source.fd,
    outputs,
    signal: anyStop,
    onLogLine: (line) => report.read(line),
  });
  const flacs = ffmpeg.pipes.slice(0, channelCount);
  const mp3 = ffmpeg.pipes[channelCount] as AsyncIterable<Buffer>;

  // All streams end only after this: a sink that sees the end may trust what it got.
  const lengths = flacs.map(() => new FlacLength());
  const flacsRead = flacs.map(() => Promise.withResolvers<void>());
  const verdict = new Promise<DecodedMedia>((resolve, reject) => {
    anyStop.addEventListener('abort', () => reject(anyStop.reason), { once: true });
    ffmpeg.exit
      .then(async (exit) => {
        refuseFailed(exit, report, source.audioTrack);
        await Promise.all(flacsRead.map(({ promise }) => promise));
        resolve(judge(lengths, exit, report, source.audioTrack));
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
  const audios = flacs.map((flac, channel) =>
    Readable.from(
      withVerdict(flac, (chunk) => lengths[channel]?.push(chunk), flacsRead[channel]?.resolve),
      { objectMode: false },
    ),
  );
  const playback = Readable.from(
    withVerdict(mp3, (chunk) => {
      mp3Bytes += chunk.length;
      const decodedSeconds = mp3Bytes / MP3_BYTES_PER_SECOND;
      if (decodedSeconds * channelCount > limits.audioSeconds) stop.abort(tooLong());
      onProgress?.({ decodedSeconds, declaredSeconds: report.declaredSeconds });
    }),
    { objectMode: false },
  );
  verdict.catch((error) => {
    for (const body of [...audios, playback]) {
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
    ...audios.map((audio, channel) => fill((body) => sinks.audio(body, channel), audio)),
    fill(sinks.playback, playback),
  ]);
  await ffmpeg.exit.catch(() => {});
  signal?.throwIfAborted();
  const failure = results.find((result) => result.status === 'rejected');
  if (failure !== undefined) throw toServiceError(failure.reason);
  return verdict;
}

/** Asks ffmpeg what the file is, without decoding more of it than it takes to know. */
async function countChannels(
  source: Source,
  { ffmpegPath, limits = DECODE_LIMITS, signal }: DecodeOptions,
): Promise<number> {
  const report = new MediaReport();
  const ffmpeg = startFfmpeg(ffmpegPath, inputArguments(), {
    limits,
    input: source.fd,
    outputs: [],
    ...(signal === undefined ? {} : { signal }),
    onLogLine: (line) => report.read(line),
  });
  const exit = await ffmpeg.exit;
  signal?.throwIfAborted();
  const track = report.audioTracks[source.audioTrack];
  // Without an output it always fails in the end, and what it failed of is what the log says. Without a rate it has
  // not found out what the track is.
  if (track === undefined || track.sampleRate === null) refuseFailed(exit, report, source.audioTrack);
  const channels = track?.channels ?? null;
  if (channels === null || channels > MAX_CHANNELS) {
    const found = channels === null ? 'a layout with no known number of them' : `${channels}`;
    throw new ServiceError(
      'invalid-option',
      `With channels=separate there may be ${MAX_CHANNELS} channels, and the audio has ${found}. Use channels=mix.`,
      { extensions: { field: 'channels' } },
    );
  }
  return channels;
}

function inputArguments(): string[] {
  return [
    // ffmpeg gets the open file and no way to open another one, wherever the media points.
    ...['-protocol_whitelist', 'fd', '-format_whitelist', CONTAINERS, '-codec_whitelist', DECODERS],
    ...['-max_alloc', `${MAX_ALLOCATION_BYTES}`, '-max_streams', `${MAX_STREAMS}`],
    // An audio decoder is no faster with more threads, and each would reserve memory.
    ...['-threads', '1', '-i', 'fd:'],
  ];
}

function decodeArguments(audioTrack: number, channelCount: number): string[] {
  // Titles, places and chapters of the user's file are not for everybody who gets a copy.
  const plain = ['-map_metadata', '-1', '-map_chapters', '-1', '-fflags', '+bitexact', '-flags', '+bitexact'];
  // Level 3 takes a fifth less space than level 0, and no longer.
  const flac = ['-c:a', 'flac', '-compression_level', '3', '-frame_size', `${FLAC_BLOCK_SAMPLES}`];
  // Level 7 takes less than half the time of level 2.
  const mp3 = ['-c:a', 'libmp3lame', '-b:a', '64k', '-compression_level', '7', '-write_xing', '0'];
  const outputs = Array.from({ length: channelCount }, (_, channel) => [
    ...['-map', `[flac${channel}]`, ...plain, ...flac],
    ...['-flush_packets', '0', '-f', 'flac', `pipe:${3 + channel}`],
  ]);
  return [
    ...inputArguments(),
    ...['-filter_complex', filters(audioTrack, channelCount)],
    ...outputs.flat(),
    ...['-map', '[mp3]', ...plain, ...mp3],
    ...['-flush_packets', '0', '-id3v2_version', '0', '-f', 'mp3', `pipe:${3 + channelCount}`],
  ];
}

/** From the track of the file to what is encoded. */
function filters(audioTrack: number, channelCount: number): string {
  // Resampled in the way in which `-ac 1 -ar 16000 -acodec pcm_s16le` does it.
  const mono = `aformat=sample_fmts=s16:sample_rates=${SAMPLE_RATE}:channel_layouts=mono`;
  const toMp3 = `apad=pad_len=${MP3_DELAY_SAMPLES},atrim=start_sample=${MP3_DELAY_SAMPLES}[mp3]`;
  if (channelCount === 1) return `[0:a:${audioTrack}]${mono},asplit[flac0][all];[all]${toMp3}`;
  const channels = Array.from({ length: channelCount }, (_, channel) => channel);
  return [
    `[0:a:${audioTrack}]asplit=${channelCount + 1}[mix]${channels.map((channel) => `[in${channel}]`).join('')}`,
    `[mix]${mono},${toMp3}`,
    // Each is picked first, so that it is resampled like a file of its own.
    ...channels.map((channel) => `[in${channel}]pan=mono|c0=c${channel},${mono}[flac${channel}]`),
  ].join(';');
}

async function openMedia(path: string): Promise<FileHandle> {
  let media: FileHandle;
  try {
    // Opening a pipe would wait for a writer; of a file O_NONBLOCK changes nothing.
    media = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw toServiceError(error);
    throw new ServiceError('media-gone', 'The stored media is no longer there. Upload it again.', {
      cause: error,
    });
  }
  try {
    const stats = await media.stat();
    // A pipe or a device would give bytes for ever, and nobody uploads one.
    if (!stats.isFile()) throw new ServiceError('media-unreadable', UNREADABLE);
    if (stats.size === 0) {
      throw new ServiceError(
        'media-empty',
        'The file has 0 bytes. Check the recording, then upload it again.',
      );
    }
    return media;
  } catch (error) {
    await media.close();
    throw error;
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
      throw tooLong(cause);
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
  refuseReference(exit, report);
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

function refuseReference(exit: FfmpegExit, report: MediaReport): void {
  if (!report.isReference) return;
  throw new ServiceError(
    'media-unreadable',
    'The file only refers to another one that holds the sound. Save it as a self-contained movie, then upload it again.',
    { cause: new FfmpegFailed(exit) },
  );
}

const tooLong = (cause?: FfmpegFailed): ServiceError =>
  limitExceeded('space: it is longer than what one job may hold', cause);

function limitExceeded(what: string, cause?: FfmpegFailed): ServiceError {
  return new ServiceError(
    'decode-limit-exceeded',
    `Decoding the file took too much ${what}. Convert it to MP3 or FLAC, or split it, then upload it again.`,
    { cause },
  );
}

function judge(
  lengths: readonly FlacLength[],
  exit: FfmpegExit,
  report: MediaReport,
  audioTrack: number,
): DecodedMedia {
  const [samples = 0, ...others] = lengths.map((length) => length.samples);
  if (others.some((other) => other !== samples)) throw new Error('the channels are not of the same length');
  const durationSeconds = samples / SAMPLE_RATE;
  if (durationSeconds < MIN_DURATION_SECONDS) {
    refuseReference(exit, report);
    if (report.hasErrors)
      throw new ServiceError('media-unreadable', UNREADABLE, { cause: new FfmpegFailed(exit) });
    throw new ServiceError(
      'media-too-short',
      `The audio lasts ${durationSeconds.toFixed(3)} s, and at least ${MIN_DURATION_SECONDS} s are needed. Check ` +
        'that the whole recording was uploaded.',
    );
  }
  const track = report.audioTracks[audioTrack] ?? { codec: 'unknown', channels: null, sampleRate: null };
  return { durationSeconds, samples, channels: lengths.length, track, isDamaged: report.hasDecodeErrors };
}
