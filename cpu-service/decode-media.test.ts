import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { readInstallation } from '../core/installation.ts';
import { ServiceError } from '../core/problem.ts';
import { sampleRecording } from '../core/sample-recording.ts';
import { childPids } from '../tests/support/child-pids.ts';
import { atom, mov, u32 } from '../tests/support/crafted-media.ts';
import { ffmpeg, KINDS, makeMedia, noise, samplesForWhisperX, sine, wav } from '../tests/support/media.ts';
import { DECODE_LIMITS, type DecodeLimits, type DecodeSinks, decodeMedia } from './decode-media.ts';

const { ffmpeg: ffmpegPath, python } = readInstallation();
// Real processes on a machine that may be busy: a second's work can take many.
jest.setTimeout(30_000);

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'decode-media-'));
  await makeMedia(ffmpegPath, { voice: sampleRecording(python), folder });
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => expect(childPids()).toEqual([]));

function file(name: string, content: Buffer | string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const made = (name: string): string => join(folder, name);

interface Options {
  audioTrack?: number;
  channels?: 'mix' | 'separate';
  limits?: Partial<DecodeLimits>;
  signal?: AbortSignal;
  onProgress?: (progress: { decodedSeconds: number; declaredSeconds: number | null }) => void;
}

function decodeInto(
  sinks: DecodeSinks,
  path: string,
  { audioTrack = 0, channels = 'mix', limits, ...options }: Options = {},
) {
  return decodeMedia({ path, audioTrack, channels }, sinks, {
    ffmpegPath,
    limits: { ...DECODE_LIMITS, timeoutMs: 20_000, ...limits },
    ...options,
  });
}

/** Decodes into memory. A stream that failed is null. */
async function decode(path: string, options: Options = {}) {
  const kept: { flac: Buffer | null; mp3: Buffer | null } = { flac: null, mp3: null };
  const media = await decodeInto(
    {
      audio: async (body) => {
        kept.flac = await buffer(body);
      },
      playback: async (body) => {
        kept.mp3 = await buffer(body);
      },
    },
    path,
    options,
  );
  return { ...media, flac: kept.flac as Buffer, mp3: kept.mp3 as Buffer };
}

/** The problem with which decoding ends; checks that neither stream was taken for a whole one. */
async function problemOf(path: string, options: Options = {}): Promise<ServiceError> {
  let whole = 0;
  const sink = async (body: Readable) => {
    await buffer(body);
    whole += 1;
  };
  const error = await decodeInto({ audio: sink, playback: sink }, path, options).then(
    () => new Error('it decoded'),
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(ServiceError);
  expect(whole).toBe(0);
  // What the user reads shows nothing of the machine.
  expect((error as ServiceError).message).not.toMatch(/ffmpeg|\/|0x/);
  return error as ServiceError;
}

describe('decodeMedia, given media of any kind', () => {
  const heard = Object.keys(KINDS).filter((name) => name !== 'silent-film.mp4');

  test.each(heard)('makes of %s exactly the samples that WhisperX would hear', async (name) => {
    const media = await decode(made(name));
    const expected = await samplesForWhisperX(ffmpegPath, made(name));
    const samples = await samplesForWhisperX(ffmpegPath, file('audio.flac', media.flac));

    expect(samples.equals(expected)).toBe(true);
    expect(media.samples).toBe(expected.length / 2);
    expect(media.durationSeconds).toBe(media.samples / 16_000);
    expect(media.isDamaged).toBe(false);
  });

  test.each([
    ['8-bit-8k.wav', 'pcm_u8', 1, 8000],
    ['stereo-44k.wav', 'pcm_s16le', 2, 44_100],
    ['surround-48k.wav', 'pcm_s16le', 6, 48_000],
    ['voice.mp3', 'mp3', 1, 44_100],
    ['video.mp4', 'aac', 2, 48_000],
    ['voice.webm', 'opus', 1, 48_000],
    ['voice.amr', 'amr_nb', 1, 8000],
  ])('says what %s holds', async (name, codec, channels, sampleRate) => {
    expect((await decode(made(name))).track).toEqual({ codec, channels, sampleRate });
  });

  test('takes the audio track it is told to, the first otherwise', async () => {
    const tone = await decode(made('two-tracks.mkv'), { audioTrack: 1 });
    const voice = await decode(made('two-tracks.mkv'));
    expect(tone.flac.equals(voice.flac)).toBe(false);
    expect(voice.flac).toEqual((await decode(made('16-bit-16k.wav'))).flac);

    const problem = await problemOf(made('two-tracks.mkv'), { audioTrack: 2 });
    expect(problem).toMatchObject({ slug: 'invalid-option', extensions: { field: 'audio_track' } });
  });

  test('decodes silence, and audio of the least length', async () => {
    const silence = await decode(file('silence.wav', wav({ seconds: 2 })));
    expect(silence.durationSeconds).toBe(2);
    const least = await decode(file('least.wav', wav({ seconds: 0.1 }, sine)));
    expect(least.samples).toBe(1600);
  });

  test('makes a copy for a player that has a constant rate and plays in time with the audio', async () => {
    const click = (seconds: number) => (seconds >= 1 && seconds < 1.01 ? 0.9 : 0);
    const { mp3 } = await decode(file('click.wav', wav({ seconds: 3 }, click)));
    // 64 kbit/s at 16 kHz: frames of 288 bytes and 576 samples, none of which is a Xing header.
    expect(mp3.length % 288).toBe(0);
    expect(mp3.length / 8000).toBeCloseTo(3, 0);
    expect(mp3.includes('Xing') || mp3.includes('Info') || mp3.includes('ID3')).toBe(false);

    const played = await samplesForWhisperX(ffmpegPath, file('click.mp3', mp3));
    let loudestAt = 0;
    for (let i = 0; i < played.length / 2; i++) {
      if (Math.abs(played.readInt16LE(i * 2)) > Math.abs(played.readInt16LE(loudestAt * 2))) loudestAt = i;
    }
    expect(loudestAt / 16_000).toBeGreaterThan(0.995);
    expect(loudestAt / 16_000).toBeLessThan(1.015);
  });

  test('keeps titles and places out of the copies', async () => {
    const { flac, mp3 } = await decode(made('voice.mp3'));
    expect(readFileSync(made('voice.mp3')).includes('SoX')).toBe(true);
    expect(flac.includes('SoX') || mp3.includes('SoX')).toBe(false);
  });

  test('tells how far it is', async () => {
    const path = file('minute.wav', wav({ seconds: 60 }, sine));
    const seen: { decodedSeconds: number; declaredSeconds: number | null }[] = [];
    await decode(path, { onProgress: (progress) => seen.push(progress) });
    expect(seen.length).toBeGreaterThan(2);
    for (const { declaredSeconds } of seen) expect(declaredSeconds).toBe(60);
    expect(seen.at(-1)?.decodedSeconds).toBeCloseTo(60, 0);
    expect(seen.map(({ decodedSeconds }) => decodedSeconds)).toEqual(
      seen.map(({ decodedSeconds }) => decodedSeconds).sort((a, b) => a - b),
    );
  });

  test('waits for slow sinks, whichever is slower', async () => {
    const path = file(
      'noise.wav',
      wav({ seconds: 40 }, () => Math.random() - 0.5),
    );
    const slow = async (body: Readable) => {
      for await (const _ of body) await sleep(5);
    };
    const verySlow = async (body: Readable) => {
      await sleep(300);
      await slow(body);
    };
    await expect(decodeInto({ audio: verySlow, playback: slow }, path)).resolves.toBeDefined();
    await expect(decodeInto({ audio: slow, playback: verySlow }, path)).resolves.toBeDefined();
  });
});

describe('decodeMedia, asked for each channel', () => {
  /** A tone for each, so that no two are alike. */
  const tones = (channels: number, sampleRate = 44_100) =>
    wav(
      { seconds: 1.5, sampleRate, channels },
      (seconds, channel) => 0.4 * Math.sin(2 * Math.PI * 200 * (channel + 1) * seconds),
    );

  async function decodeChannels(path: string, options: Options = {}) {
    const flacs: Buffer[] = [];
    let mp3 = Buffer.alloc(0);
    const media = await decodeInto(
      {
        audio: async (body, channel) => {
          flacs[channel] = await buffer(body);
        },
        playback: async (body) => {
          mp3 = await buffer(body);
        },
      },
      path,
      { channels: 'separate', ...options },
    );
    return { ...media, flacs, mp3 };
  }

  test.each([2, 3, 6, 8])(
    'gives of %d what a mono file of each would give, and plays the mix',
    async (count) => {
      const path = file(`tones-${count}.wav`, tones(count));
      const media = await decodeChannels(path);
      expect(media).toMatchObject({ channels: count, track: { channels: count } });
      expect(media.flacs).toHaveLength(count);
      for (const [channel, flac] of media.flacs.entries()) {
        const mono = file(
          'mono.wav',
          await ffmpeg(ffmpegPath, ['-i', path, '-af', `pan=mono|c0=c${channel}`, '-f', 'wav', 'pipe:1']),
        );
        expect(flac.equals((await decode(mono)).flac)).toBe(true);
      }
      expect(media.mp3.equals((await decode(path)).mp3)).toBe(true);
    },
  );

  test('gives one of a mono file, the same as the mix', async () => {
    const path = file('tones-1.wav', tones(1));
    const media = await decodeChannels(path);
    expect(media).toMatchObject({ channels: 1, samples: 24_000 });
    expect(media.flacs).toEqual([(await decode(path)).flac]);
  });

  test('takes those of the track it is told to', async () => {
    const stereo = file('tones-2.wav', tones(2, 16_000));
    const path = made('mono-and-stereo.mkv');
    await ffmpeg(ffmpegPath, [
      ...['-i', made('16-bit-16k.wav'), '-i', stereo, '-map', '0:a', '-map', '1:a', '-c:a', 'flac', path],
    ]);
    expect((await decodeChannels(path)).flacs).toHaveLength(1);
    const { flacs } = await decodeChannels(path, { audioTrack: 1 });
    expect(flacs).toEqual((await decodeChannels(stereo)).flacs);
    await expect(decodeChannels(path, { audioTrack: 2 })).rejects.toMatchObject({
      extensions: { field: 'audio_track' },
    });
  });

  test('makes them equally long where the number of channels changes on the way', async () => {
    const adts = (channels: number) =>
      ffmpeg(ffmpegPath, [
        '-i',
        made('16-bit-16k.wav'),
        '-ac',
        `${channels}`,
        '-c:a',
        'aac',
        '-f',
        'adts',
        'pipe:1',
      ]);
    const [one, two] = [await adts(1), await adts(2)];
    const { durationSeconds, flacs } = await decodeChannels(file('two-one.aac', Buffer.concat([two, one])));
    expect(durationSeconds).toBeGreaterThan(6);
    expect(flacs).toHaveLength(2);
    expect((await decodeChannels(file('one-two.aac', Buffer.concat([one, two])))).flacs).toHaveLength(1);
  });

  test('refuses more than eight', async () => {
    const path = file('tones-9.wav', tones(9, 16_000));
    const problem = await problemOf(path, { channels: 'separate' });
    expect(problem).toMatchObject({ slug: 'invalid-option', extensions: { field: 'channels' } });
  });

  test('counts all of them against the longest audio', async () => {
    const path = file('tones-4.wav', tones(4, 16_000));
    expect((await problemOf(path, { channels: 'separate', limits: { audioSeconds: 5 } })).slug).toBe(
      'decode-limit-exceeded',
    );
    expect((await decodeChannels(path, { limits: { audioSeconds: 7 } })).channels).toBe(4);
  });

  test('says of what is no audio the same as for the mix', async () => {
    const slug = async (path: string) => (await problemOf(path, { channels: 'separate' })).slug;
    expect(await slug(made('silent-film.mp4'))).toBe('media-without-audio');
    expect(await slug(file('noise.bin', noise(100_000)))).toBe('media-unreadable');
    expect(await slug(file('nothing.bin', ''))).toBe('media-empty');
    const sound = atom('hdlr', u32(0), 'mhlrsoun', Buffer.alloc(13));
    expect(await slug(file('no-format.mov', mov([atom('trak', atom('mdia', sound))])))).toBe(
      'media-unreadable',
    );
  });

  test('ends all of them when one cannot be stored', async () => {
    const path = file('tones-long.wav', wav({ seconds: 200, channels: 2 }));
    const full = Object.assign(new Error('no space'), { code: 'ENOSPC' });
    const ended: unknown[] = [];
    const keep = (body: Readable) => buffer(body).catch((error: unknown) => ended.push(error));
    const decoding = decodeInto(
      {
        playback: keep,
        audio: async (body, channel) => {
          if (channel === 0) return keep(body);
          for await (const _ of body) throw full;
        },
      },
      path,
      { channels: 'separate' },
    );
    await expect(decoding).rejects.toMatchObject({ slug: 'storage-full' });
    expect(ended).toEqual([full, full]);
  });

  test('waits for the slowest sink without holding the rest in memory', async () => {
    const path = file(
      'tones-noise.wav',
      wav({ seconds: 60, channels: 2 }, () => Math.random() - 0.5),
    );
    let bytes = 0;
    const quick = async (body: Readable) => {
      for await (const piece of body) bytes += (piece as Buffer).length;
    };
    const slow = async (body: Readable) => {
      await sleep(500);
      // The other channel had to stop: it is about two megabytes.
      expect(bytes).toBeLessThan(1_500_000);
      await quick(body);
    };
    const sinks: DecodeSinks = {
      audio: (body, channel) => (channel === 0 ? quick : slow)(body),
      playback: quick,
    };
    expect((await decodeInto(sinks, path, { channels: 'separate' })).durationSeconds).toBe(60);
  });
});

describe('decodeMedia, given something else', () => {
  const text = 'Dear diary, today I renamed a text file. '.repeat(500);
  const playlist = (target: string) =>
    `#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n${target}\n#EXT-X-ENDLIST\n`;

  test.each<[string, string, () => string]>([
    ['nothing at all', 'media-empty', () => file('empty.mp3', '')],
    ['a file that is gone', 'media-gone', () => made('gone.wav')],
    ['text', 'media-unreadable', () => file('text.mp3', text)],
    ['noise', 'media-unreadable', () => file('noise.mp3', noise(100_000))],
    ['noise without a name', 'media-unreadable', () => file('media', noise(300_000, 7))],
    ['a picture', 'media-unreadable', () => file('picture.mp4', pixel)],
    ['an mp4 without its end', 'media-unreadable', () => cutOff('video.mp4', 0.5)],
    ['a video without audio', 'media-without-audio', () => made('silent-film.mp4')],
    ['0.05 s of audio', 'media-too-short', () => file('short.wav', wav({ seconds: 0.05 }, sine))],
    ['a WAV without samples', 'media-too-short', () => file('none.wav', wav({ seconds: 0 }))],
    ['a playlist', 'media-unreadable', () => file('list.m3u8', playlist('voice.aac'))],
    ['a renamed playlist', 'media-unreadable', () => file('list.mp4', playlist('voice.aac'))],
    [
      'a playlist of another file by path',
      'media-unreadable',
      () => file('path.m3u8', playlist(`file://${made('voice.aac')}`)),
    ],
    [
      'a script that names another file',
      'media-unreadable',
      () => file('script.mp4', "ffconcat version 1.0\nfile 'voice.aac'\n"),
    ],
    [
      'a session description',
      'media-unreadable',
      () => file('session.sdp', 'v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n'),
    ],
  ])('refuses %s as %s', async (_, slug, makePath) => {
    expect((await problemOf(makePath())).slug).toBe(slug);
  });

  test('says of an mp4 without its end that it is incomplete', async () => {
    expect((await problemOf(cutOff('video.mp4', 0.5))).message).toContain('incomplete');
  });

  test('decodes what there is of an mp3 and an mkv that are cut off', async () => {
    for (const name of ['voice.mp3', 'two-tracks.mkv']) {
      const { durationSeconds } = await decode(cutOff(name, 0.5));
      expect(durationSeconds).toBeGreaterThan(1);
      expect(durationSeconds).toBeLessThan(2);
    }
  });

  test('decodes around damage, and says so', async () => {
    const bytes = readFileSync(made('voice.flac'));
    noise(3000).copy(bytes, Math.floor(bytes.length / 2));
    const media = await decode(file('damaged.flac', bytes));
    expect(media.isDamaged).toBe(true);
    expect(media.durationSeconds).toBeGreaterThan(1);
  });

  test('reads a path that looks like an option or an address as a path', async () => {
    for (const name of ['-version', 'http:', 'concat:a|b', "it's $(here)%d.wav"]) {
      expect((await decode(file(name, wav({ seconds: 1 }, sine)))).durationSeconds).toBe(1);
    }
  });

  function cutOff(name: string, fraction: number): string {
    const bytes = readFileSync(made(name));
    return file(`cut-off-${name}`, bytes.subarray(0, Math.floor(bytes.length * fraction)));
  }
});

describe('decodeMedia, when it cannot go on', () => {
  let hour: string;
  beforeAll(() => {
    // Its header promises an hour, and the rest of the file is a hole: silence that takes no space.
    const header = wav({ seconds: 0 });
    header.writeUInt32LE(3600 * 32_000, 40);
    hour = file('hour.wav', header);
    truncateSync(hour, 44 + 3600 * 32_000);
  });

  const limits: [string, Partial<DecodeLimits>][] = [
    ['time', { timeoutMs: 50 }],
    ['CPU time', { cpuSeconds: 1 }],
    ['output', { pipedBytes: 100_000 }],
    ['audio', { audioSeconds: 600 }],
  ];
  if (process.platform !== 'darwin') limits.push(['memory', { memoryBytes: 150 * 2 ** 20 }]);

  test.each(limits)('refuses what takes too much %s', async (_, limits) => {
    expect((await problemOf(hour, { limits })).slug).toBe('decode-limit-exceeded');
  });

  test('ends at once when it is aborted, for the reason it was given', async () => {
    const controller = new AbortController();
    const reason = new Error('canceled');
    const errors: unknown[] = [];
    const sink = (body: Readable) =>
      buffer(body).catch((error: unknown) => {
        errors.push(error);
        throw error;
      });
    const decoding = decodeInto({ audio: sink, playback: sink }, hour, {
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    });
    await expect(decoding).rejects.toBe(reason);
    expect(errors).toEqual([reason, reason]);
  });

  test('starts nothing when it was aborted before', async () => {
    const sink = () => Promise.reject(new Error('this was not to be called'));
    const signal = AbortSignal.abort(new Error('canceled'));
    await expect(decodeInto({ audio: sink, playback: sink }, hour, { signal })).rejects.toThrow('canceled');
  });

  test.each(['audio', 'playback'] as const)(
    'ends both streams when the %s cannot be stored',
    async (failing) => {
      const full = Object.assign(new Error('no space'), { code: 'ENOSPC' });
      let other: unknown;
      const keep = async (body: Readable) => {
        try {
          await buffer(body);
        } catch (error) {
          other = error;
          throw error;
        }
      };
      const fail = async (body: Readable) => {
        for await (const _ of body) throw full;
      };
      const sinks = { audio: keep, playback: keep, [failing]: fail };
      await expect(decodeInto(sinks, hour)).rejects.toMatchObject({ slug: 'storage-full' });
      expect(other).toBe(full);
    },
  );

  test('fails when a sink never reads, or returns too early', async () => {
    const never = () => Promise.reject(new ServiceError('storage-full', 'No.'));
    const early = () => Promise.resolve();
    const reads = (body: Readable) => buffer(body);
    await expect(decodeInto({ audio: never, playback: reads }, hour)).rejects.toMatchObject({
      slug: 'storage-full',
    });
    await expect(decodeInto({ audio: reads, playback: early }, hour)).rejects.toMatchObject({
      slug: 'internal',
    });
  });

  test('does not blame the file when ffmpeg is not there', async () => {
    const sink = (body: Readable) => buffer(body);
    const decoding = decodeMedia(
      { path: made('voice.mp3') },
      { audio: sink, playback: sink },
      { ffmpegPath: made('no-ffmpeg') },
    );
    await expect(decoding).rejects.toMatchObject({ slug: 'internal', retry: true });
  });
});

const pixel = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);
