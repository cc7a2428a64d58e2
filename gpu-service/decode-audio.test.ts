import {
  createReadStream,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { readInstallation } from '../core/installation.ts';
import { sampleRecording } from '../core/sample-recording.ts';
import { childPids } from '../tests/support/child-pids.ts';
import { ffmpeg, samplesForWhisperX } from '../tests/support/media.ts';
import { decodeAudio } from './decode-audio.ts';

const { ffmpeg: ffmpegPath, python } = readInstallation();
// Real processes on a machine that may be busy: a second's work can take many.
jest.setTimeout(30_000);
const recording = sampleRecording(python);

let flac: Buffer;
beforeAll(async () => {
  flac = await ffmpeg(ffmpegPath, ['-i', recording, '-ac', '1', '-ar', '16000', '-f', 'flac', 'pipe:1']);
});

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'decode-audio-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  expect(childPids()).toEqual([]);
});

/** In small pieces, and after `cut` of them an error instead of the rest. */
async function* pieces(cut = Number.POSITIVE_INFINITY): AsyncGenerator<Buffer> {
  for (let i = 0; i * 1000 < flac.length; i++) {
    if (i === cut) throw new Error('the store went away');
    yield flac.subarray(i * 1000, i * 1000 + 1000);
  }
}

describe('decodeAudio', () => {
  test('writes the samples that WhisperX would hear, over what an earlier try left', async () => {
    const path = join(folder, 'audio.pcm');
    const { pcm } = await decodeAudio([async () => Readable.from(pieces())], path, { ffmpegPath });
    const expected = await samplesForWhisperX(ffmpegPath, recording);
    expect(readFileSync(path).equals(expected)).toBe(true);
    expect(pcm.samples).toBe(expected.length / 2);
    await decodeAudio([async () => Readable.from(pieces())], path, { ffmpegPath });
    expect(readFileSync(path).equals(expected)).toBe(true);
  });

  test('puts channels one after the other, with a silence longer than any chunk in between', async () => {
    const path = join(folder, 'audio.pcm');
    const openFlac = async () => Readable.from(pieces());
    const audio = await decodeAudio([openFlac, openFlac], path, { ffmpegPath });
    const channel = await samplesForWhisperX(ffmpegPath, recording);
    const gap = Buffer.alloc(31 * 32_000);
    expect(readFileSync(path).equals(Buffer.concat([channel, gap, channel]))).toBe(true);
    const durationSeconds = channel.length / 32_000;
    expect(audio).toMatchObject({ channelStarts: [0, durationSeconds + 31], durationSeconds });
  });

  test('fails when its source fails, however whole the audio looks by then', async () => {
    const decoding = decodeAudio([async () => Readable.from(pieces(20))], join(folder, 'audio.pcm'), {
      ffmpegPath,
    });
    await expect(decoding).rejects.toThrow('the store went away');
    expect(readdirSync(folder)).toEqual([]);
  });

  test('ends when it is aborted, for the reason it was given', async () => {
    const controller = new AbortController();
    const reason = new Error('canceled');
    async function* stalls() {
      yield flac.subarray(0, 50_000);
      controller.abort(reason);
      await new Promise(() => {});
    }
    const source = Readable.from(stalls());
    const decoding = decodeAudio([async () => source], join(folder, 'audio.pcm'), {
      ffmpegPath,
      signal: controller.signal,
    });
    await expect(decoding).rejects.toBe(reason);
    expect(source.destroyed).toBe(true);
    expect(readdirSync(folder)).toEqual([]);
  });

  test('starts nothing when it was aborted before', async () => {
    const source = Readable.from(pieces());
    const signal = AbortSignal.abort(new Error('canceled'));
    const decoding = decodeAudio([async () => source], join(folder, 'audio.pcm'), { ffmpegPath, signal });
    await expect(decoding).rejects.toThrow('canceled');
    expect(source.destroyed).toBe(true);
    expect(readdirSync(folder)).toEqual([]);
  });

  const testWithFullDevice = existsSync('/dev/full') ? test : test.skip;
  testWithFullDevice('says when the disk is full', async () => {
    const path = join(folder, 'audio.pcm');
    symlinkSync('/dev/full', path);
    const decoding = decodeAudio([async () => Readable.from(pieces())], path, { ffmpegPath });
    await expect(decoding).rejects.toMatchObject({ slug: 'storage-full' });
    expect(readdirSync(folder)).toEqual([]);
  });

  test('fails on what is no FLAC, and where there is no folder', async () => {
    const path = join(folder, 'audio.pcm');
    const decoding = decodeAudio([async () => createReadStream(import.meta.filename)], path, { ffmpegPath });
    await expect(decoding).rejects.toMatchObject({ slug: 'internal' });
    const nowhere = decodeAudio([async () => Readable.from(pieces())], join(folder, 'no', 'audio.pcm'), {
      ffmpegPath,
    });
    await expect(nowhere).rejects.toMatchObject({ slug: 'internal' });
    expect(readdirSync(folder)).toEqual([]);
  });
});
