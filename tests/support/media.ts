import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { buffer, text } from 'node:stream/consumers';

/** Runs ffmpeg to make test media, and returns what it writes to `pipe:1`. Unlike the product it may read anything. */
export async function ffmpeg(ffmpegPath: string, args: readonly string[]): Promise<Buffer> {
  const child = spawn(ffmpegPath, ['-nostdin', '-v', 'error', '-y', ...args], {
    // Without its own, a static ffmpeg crashes on transport streams: see core/ffmpeg.ts.
    env: { GCONV_PATH: '/nonexistent' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const closed = once(child, 'close');
  const [stdout, stderr] = await Promise.all([buffer(child.stdout), text(child.stderr)]);
  const [code] = await closed;
  if (code !== 0) throw new Error(`ffmpeg ${args.join(' ')} ended with ${code}: ${stderr}`);
  return stdout;
}

/** What stock WhisperX hears: the output options of its `load_audio` (whisperx/audio.py). */
export function samplesForWhisperX(ffmpegPath: string, path: string): Promise<Buffer> {
  const output = ['-f', 's16le', '-ac', '1', '-acodec', 'pcm_s16le', '-ar', '16000', '-'];
  return ffmpeg(ffmpegPath, ['-threads', '0', '-i', path, ...output]);
}

/** A 16-bit WAV file; `sampleAt` gives values from -1 to 1. */
export function wav(
  { seconds, sampleRate = 16_000, channels = 1 }: { seconds: number; sampleRate?: number; channels?: number },
  sampleAt: (seconds: number, channel: number) => number = () => 0,
): Buffer {
  const frames = Math.round(seconds * sampleRate);
  const dataBytes = frames * channels * 2;
  const file = Buffer.alloc(44 + dataBytes);
  file.write('RIFF', 0, 'latin1');
  file.writeUInt32LE(36 + dataBytes, 4);
  file.write('WAVEfmt ', 8, 'latin1');
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(channels, 22);
  file.writeUInt32LE(sampleRate, 24);
  file.writeUInt32LE(sampleRate * channels * 2, 28);
  file.writeUInt16LE(channels * 2, 32);
  file.writeUInt16LE(16, 34);
  file.write('data', 36, 'latin1');
  file.writeUInt32LE(dataBytes, 40);
  for (let i = 0; i < frames * channels; i++) {
    const value = sampleAt(Math.floor(i / channels) / sampleRate, i % channels);
    file.writeInt16LE(Math.round(value * 32_767), 44 + i * 2);
  }
  return file;
}

export const sine = (seconds: number): number => 0.5 * Math.sin(2 * Math.PI * 440 * seconds);

/** The same on every run, so that a failure can be looked at again. */
export function noise(sizeBytes: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  let state = seed;
  for (let i = 0; i < sizeBytes; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** File name → output options, for media of every common kind. All are made from the same few seconds. */
export const KINDS: Record<string, readonly string[]> = {
  '8-bit-8k.wav': ['-c:a', 'pcm_u8', '-ar', '8000'],
  '16-bit-16k.wav': ['-c:a', 'pcm_s16le', '-ar', '16000'],
  'stereo-44k.wav': ['-c:a', 'pcm_s16le', '-ar', '44100', '-ac', '2'],
  '24-bit-48k.wav': ['-c:a', 'pcm_s24le', '-ar', '48000'],
  'float-96k.wav': ['-c:a', 'pcm_f32le', '-ar', '96000', '-ac', '2'],
  'surround-48k.wav': ['-c:a', 'pcm_s16le', '-ar', '48000', '-ac', '6'],
  'voice.mp3': ['-c:a', 'libmp3lame', '-ar', '44100', '-b:a', '64k'],
  'voice.m4a': ['-c:a', 'aac', '-ar', '44100', '-ac', '2'],
  'voice.aac': ['-c:a', 'aac', '-ar', '22050'],
  'voice.ogg': ['-c:a', 'libvorbis', '-ar', '44100', '-ac', '2'],
  'voice.opus': ['-c:a', 'libopus', '-b:a', '24k'],
  'voice.flac': ['-c:a', 'flac', '-ar', '48000', '-sample_fmt', 's32'],
  'voice.webm': ['-c:a', 'libopus', '-b:a', '24k'],
  'voice.amr': ['-c:a', 'libopencore_amrnb', '-ar', '8000', '-ac', '1', '-b:a', '12.2k'],
  'voice.wma': ['-c:a', 'wmav2', '-ar', '44100'],
  'voice.aiff': ['-c:a', 'pcm_s16be', '-ar', '32000'],
  'voice.caf': ['-c:a', 'alac', '-ar', '48000'],
  'voice.wv': ['-c:a', 'wavpack', '-ar', '44100'],
  'video.mp4': ['-map', '1:v', '-map', '0:a', '-c:v', 'mpeg4', '-c:a', 'aac', '-ar', '48000', '-ac', '2'],
  'video.ts': ['-map', '1:v', '-map', '0:a', '-c:v', 'mpeg2video', '-c:a', 'mp2', '-ar', '48000'],
  'video.avi': ['-map', '1:v', '-map', '0:a', '-c:v', 'mpeg4', '-c:a', 'ac3', '-ar', '48000'],
  'two-tracks.mkv': ['-map', '0:a', '-map', '2:a', '-c:a', 'flac', '-ar', '16000'],
  'silent-film.mp4': ['-map', '1:v', '-c:v', 'mpeg4'],
};

/** Writes all KINDS into `folder`, in one pass. Input 0 is `voice`, 1 a test picture, 2 a tone. */
export async function makeMedia(
  ffmpegPath: string,
  { voice, folder, seconds = 3 }: { voice: string; folder: string; seconds?: number },
): Promise<void> {
  const length = ['-t', `${seconds}`];
  const inputs = [
    ...[...length, '-i', voice],
    ...[...length, '-f', 'lavfi', '-i', 'testsrc=size=64x48:rate=10'],
    ...[...length, '-f', 'lavfi', '-i', 'sine=frequency=440:sample_rate=16000'],
  ];
  const outputs = Object.entries(KINDS).flatMap(([name, options]) => [
    ...(options.includes('-map') ? options : ['-map', '0:a', ...options]),
    `${folder}/${name}`,
  ]);
  await ffmpeg(ffmpegPath, [...inputs, ...outputs]);
}
