import { describe, expect, jest, test } from '@jest/globals';
import { readInstallation } from '../core/installation.ts';
import { ffmpeg } from '../tests/support/media.ts';
import { FlacLength } from './flac-length.ts';

const { ffmpeg: ffmpegPath } = readInstallation();
// Real processes on a machine that may be busy: a second's work can take many.
jest.setTimeout(30_000);

/** Noise cannot be compressed, so its frames are as long as frames get. */
function flac(samples: number, source: 'anoisesrc' | 'anullsrc'): Promise<Buffer> {
  const graph = `${source}=sample_rate=16000,aformat=s16:16000:mono,atrim=end_sample=${samples}`;
  const encode = ['-c:a', 'flac', '-frame_size', '4096', '-f', 'flac', 'pipe:1'];
  return ffmpeg(ffmpegPath, ['-f', 'lavfi', '-i', graph, ...encode]);
}

function lengthOf(bytes: Buffer, chunkBytes: number): number {
  const length = new FlacLength();
  for (let at = 0; at < bytes.length; at += chunkBytes) length.push(bytes.subarray(at, at + chunkBytes));
  return length.samples;
}

describe('FlacLength', () => {
  test.each([1, 2, 192, 256, 576, 4095, 4096, 4097, 4608, 12_288, 600_000])(
    'counts %i samples of noise to the last one',
    async (samples) => {
      expect(lengthOf(await flac(samples, 'anoisesrc'), 1000)).toBe(samples);
    },
  );

  test('counts past where frame numbers take more bytes, whatever the chunks', async () => {
    const samples = 2100 * 4096 + 5;
    const silence = await flac(samples, 'anullsrc');
    for (const chunkBytes of [7, 5000, 70_000]) expect(lengthOf(silence, chunkBytes)).toBe(samples);
  });

  test('does not count a stream that is cut off', async () => {
    const whole = await flac(10_000, 'anoisesrc');
    expect(lengthOf(whole.subarray(0, -1), 1000)).toBe(0);
    expect(lengthOf(Buffer.alloc(0), 1000)).toBe(0);
  });
});
