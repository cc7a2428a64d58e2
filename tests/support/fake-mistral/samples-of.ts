import { spawn } from 'node:child_process';
import { buffer } from 'node:stream/consumers';

/** What a decoder of its own hears in a file. */
export async function samplesOf(ffmpegPath: string, audio: Buffer): Promise<Int16Array> {
  const args = [
    '-nostdin',
    '-v',
    'error',
    '-i',
    'pipe:0',
    '-f',
    's16le',
    '-ac',
    '1',
    '-ar',
    '16000',
    'pipe:1',
  ];
  const child = spawn(ffmpegPath, args, {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: { GCONV_PATH: '/nonexistent' },
  });
  child.stdin.on('error', () => {});
  child.stdin.end(audio);
  const pcm = await buffer(child.stdout);
  const bytes = pcm.length - (pcm.length % 2);
  return new Int16Array(pcm.buffer.slice(pcm.byteOffset, pcm.byteOffset + bytes));
}
