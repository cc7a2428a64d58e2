import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Client } from '../../cli/client.ts';
import { readInstallation } from '../../core/installation.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { Transcript } from '../../core/transcript.ts';
import { ffmpeg } from '../support/media.ts';
import { type Service, startService } from '../support/service.ts';
import { submit, waitUntilSettled } from '../support/submit.ts';
import { wordDifference } from '../support/word-difference.ts';

const installation = readInstallation();
const encoders = String(await ffmpeg(installation.ffmpeg, ['-encoders']));

/** The voice, at the same level, in so many channels: what is mixed again is the voice. */
const both = ['-af', 'pan=stereo|c0=c0|c1=c0'];
/** As films have it: the voice in the middle, and nothing elsewhere. Mixed, it is fainter. */
const centre = (layout: string) => ['-af', `pan=${layout}|FC=c0`];
const picture = ['-map', '1:v', '-map', '0:a', '-c:v', 'mpeg4', '-q:v', '10'];
const at = (rate: number, codec: string, ...more: string[]) => ['-c:a', codec, '-ar', `${rate}`, ...more];

/** ffmpeg's output options by file name, all made of the same speech at 16 kHz, mono, 16 bit. */
type Media = Record<string, readonly string[]>;

/**
 * Each container and codec once, and both ends of the rates. The others are tried by
 * `FORMATS=all npm test -- e2e/formats`: they take a minute or two more.
 */
const SHORT_FORM = new Set([
  'pcm-24-16k.wav',
  'flac-16k.flac',
  'pcm-16k-stereo-video.mov',
  'flac-16k-video.mkv',
  'alac-44k-stereo.m4a',
  'float-96k-5.1.wav',
  'aac-48k-stereo-video.mp4',
  'mp3-44k-stereo.mp3',
  'vorbis-32k.webm',
  'opus-48k-stereo.ogg',
  'amr-wb-16k.amr',
  'wma2-44k-stereo.wma',
  'pcm-8k-8-bit.wav',
  'amr-nb-8k-video.3gp',
]);
const isTried = (name: string): boolean => process.env.FORMATS === 'all' || SHORT_FORM.has(name);

/** Without what this ffmpeg cannot make: that of another system may have fewer encoders. */
function possible(media: Media): Media {
  return Object.fromEntries(
    Object.entries(media).filter(([name, options]) => {
      if (!isTried(name)) return false;
      const used = options.filter((_, i) => /^-c:[av]$/.test(options[i - 1] ?? ''));
      const missing = used.filter((encoder) => !encoders.includes(` ${encoder} `));
      if (missing.length > 0)
        console.warn(`Skipped: ${name}. This ffmpeg has no ${missing.join(' and no ')}.`);
      return missing.length === 0;
    }),
  );
}

/** To the models the same samples: neither rate nor level has been touched. */
const SAME_SAMPLES = possible({
  'pcm-24-16k.wav': at(16_000, 'pcm_s24le'),
  'float-16k-stereo.wav': [...both, ...at(16_000, 'pcm_f32le')],
  'pcm-16k-2.1.wav': ['-af', 'pan=2.1|FL=c0|FR=c0', ...at(16_000, 'pcm_s16le')],
  'flac-16k.flac': at(16_000, 'flac'),
  'flac-16k.ogg': at(16_000, 'flac'),
  'alac-16k.m4a': at(16_000, 'alac'),
  'alac-16k-video.mp4': [...picture, ...at(16_000, 'alac')],
  'pcm-16k-stereo-video.mov': [...picture, ...both, ...at(16_000, 'pcm_s16be')],
  'flac-16k-video.mkv': [...picture, ...at(16_000, 'flac')],
});

/** Nothing is lost, but the samples are not quite the same: made for a higher rate and back, or fainter. */
const LOSSLESS = possible({
  'pcm-22k.wav': at(22_050, 'pcm_s16le'),
  'flac-24k.flac': at(24_000, 'flac'),
  'pcm-32k-stereo.wav': [...both, ...at(32_000, 'pcm_s16le')],
  'alac-44k-stereo.m4a': [...both, ...at(44_100, 'alac')],
  'flac-48k-24-bit.flac': at(48_000, 'flac', '-sample_fmt', 's32'),
  'flac-48k-5.1.mkv': [...centre('5.1'), ...at(48_000, 'flac')],
  'pcm-48k-3.0.mov': [...centre('3.0'), ...at(48_000, 'pcm_s24le')],
  'flac-88k-4.0.flac': [...centre('4.0'), ...at(88_200, 'flac')],
  'pcm-44k-5.0.wav': [...centre('5.0'), ...at(44_100, 'pcm_s16le')],
  'float-96k-5.1.wav': [...centre('5.1'), ...at(96_000, 'pcm_f32le')],
  'flac-96k-stereo.flac': [...both, ...at(96_000, 'flac')],
});

const LOSSY = possible({
  'aac-48k-stereo-video.mp4': [...picture, ...both, ...at(48_000, 'aac')],
  'aac-44k-stereo.m4a': [...both, ...at(44_100, 'aac')],
  'aac-96k-5.1.m4a': [...centre('5.1'), ...at(96_000, 'aac')],
  'aac-32k-video.mov': [...picture, ...at(32_000, 'aac')],
  'aac-22k-video.3gp': [...picture, ...at(22_050, 'aac')],
  'mp3-44k-stereo.mp3': [...both, ...at(44_100, 'libmp3lame', '-b:a', '128k')],
  'mp3-24k.mp3': at(24_000, 'libmp3lame', '-b:a', '48k'),
  'mp3-16k.mp3': at(16_000, 'libmp3lame', '-b:a', '32k'),
  'vorbis-44k-stereo.ogg': [...both, ...at(44_100, 'libvorbis')],
  'vorbis-32k.webm': at(32_000, 'libvorbis'),
  'opus-48k.opus': at(48_000, 'libopus', '-b:a', '24k'),
  'opus-48k-stereo.ogg': [...both, ...at(48_000, 'libopus', '-b:a', '48k')],
  'opus-48k-5.1-video.webm': [
    ...['-map', '1:v', '-map', '0:a', '-c:v', 'libvpx', '-deadline', 'realtime'],
    ...[...centre('5.1'), ...at(48_000, 'libopus', '-b:a', '160k')],
  ],
  'ac3-48k-5.1.mkv': [...centre('5.1'), ...at(48_000, 'ac3')],
  'amr-wb-16k.amr': at(16_000, 'libvo_amrwbenc', '-b:a', '23.85k'),
  'wma2-44k-stereo.wma': [...both, ...at(44_100, 'wmav2', '-b:a', '128k')],
  'wma1-32k.wma': at(32_000, 'wmav1', '-b:a', '64k'),
});

/** As on a telephone: half of what makes up the sounds is gone. */
const NARROW = possible({
  'pcm-8k-8-bit.wav': at(8_000, 'pcm_u8'),
  'mulaw-8k-stereo.wav': [...both, ...at(8_000, 'pcm_mulaw')],
  'flac-8k.flac': at(8_000, 'flac'),
  'amr-nb-8k.amr': at(8_000, 'libopencore_amrnb', '-b:a', '12.2k'),
  'amr-nb-8k-video.3gp': [
    ...['-map', '1:v', '-map', '0:a', '-c:v', 'h263', '-s', '128x96'],
    ...at(8_000, 'libopencore_amrnb', '-b:a', '12.2k'),
  ],
  'mp3-11k.mp3': at(11_025, 'libmp3lame', '-b:a', '24k'),
  'opus-12k.opus': at(12_000, 'libopus', '-b:a', '16k'),
});

const ALL: Media = { ...SAME_SAMPLES, ...LOSSLESS, ...LOSSY, ...NARROW };

let folder: string;
let service: Service;
let client: Client;
let plain: Transcript;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'zeroscribe-formats-'));
  const speech = join(folder, 'speech.wav');
  // Where two people hear well what the other says. Elsewhere they talk at the same time, and there one bit more or
  // less in a sample makes the smallest model, which this is, hear another word.
  const sample = sampleRecording(installation.python);
  await ffmpeg(installation.ffmpeg, ['-ss', '17.7', '-i', sample, speech]);
  const outputs = Object.entries(ALL).flatMap(([name, options]) => [
    ...(options.includes('-map') ? options : ['-map', '0:a', ...options]),
    join(folder, name),
  ]);
  const picture = ['-f', 'lavfi', '-t', '12', '-i', 'testsrc=size=128x96:rate=5'];
  await ffmpeg(installation.ffmpeg, ['-i', speech, ...picture, ...outputs]);
  service = await startService(join(folder, 'data'), { WHISPER_MODEL: installation.packaged_model.name });
  client = new Client(service.url);
  plain = await transcribe('speech.wav');
}, 60_000);

afterAll(async () => {
  expect(await service.stop()).toBe(0);
  await rm(folder, { recursive: true });
});

async function transcribe(name: string): Promise<Transcript> {
  const { id } = await submit(client, join(folder, name), { language: 'en' });
  const settled = await waitUntilSettled(client, id);
  expect(settled).toMatchObject({ status: 'completed', problem: null, warnings: [] });
  return Transcript.parse(JSON.parse(await client.transcript(id, 'json')));
}

/** From the words of the plain file. */
async function difference(name: string): Promise<number> {
  const { text } = await transcribe(name);
  const { rate, changes } = wordDifference(plain.text, text);
  if (changes.length > 0) console.info(`${name}: ${(rate * 100).toFixed(0)} % (${changes.join(', ')})`);
  return rate;
}

test('the plain file is what was said', () => {
  expect(plain.text).toMatch(/I'm originally from Chicago also\. I'm in New Jersey now/);
});

test.each(Object.keys(SAME_SAMPLES))('%s gives the same transcript', async (name) => {
  const { segments, text } = await transcribe(name);
  expect({ segments, text }).toEqual({ segments: plain.segments, text: plain.text });
});

test.each(Object.keys(LOSSLESS))('%s gives the same words', async (name) => {
  expect(await difference(name)).toBe(0);
});

test.each(Object.keys(LOSSY))('%s gives nine words of ten', async (name) => {
  expect(await difference(name)).toBeLessThanOrEqual(0.1);
});

describe('at less than 16 kHz', () => {
  test.each(Object.keys(NARROW))('%s gives most words', async (name) => {
    expect(await difference(name)).toBeLessThan(0.5);
  });
});
