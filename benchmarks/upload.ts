import { fork } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { join } from 'node:path';
import { machineFacts } from './machine.ts';
import { treeMemoryBytes } from './measure-process.ts';
import { writeResults } from './results.ts';

const SIZE_BYTES = 2 * 10 ** 9;
const PIECE_BYTES = 256 * 1024;

/** How much memory an upload costs the API, and how fast it is, beside plain Express with multer to disk. */
export async function benchUpload(): Promise<void> {
  const rows = [];
  for (const server of ['multer', 'zeroscribe'] as const) rows.push(await measureUpload(server));
  await writeResults('upload', { machine: machineFacts(), size_bytes: SIZE_BYTES, rows });
  console.log('| 2 GB multipart upload | idle | highest | more | MB/s |');
  console.log('|---|---|---|---|---|');
  for (const { server, idle_mb, highest_mb, mb_per_second } of rows) {
    const name = server === 'multer' ? 'Express + multer to disk' : 'zeroscribe';
    console.log(
      `| ${name} | ${idle_mb.toFixed(0)} MB | ${highest_mb.toFixed(0)} MB | ${(highest_mb - idle_mb).toFixed(0)} MB | ${mb_per_second.toFixed(0)} |`,
    );
  }
}

async function measureUpload(server: 'multer' | 'zeroscribe') {
  const child = fork(join(import.meta.dirname, 'upload-server.ts'), [server], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  try {
    const [{ url }] = (await once(child, 'message')) as [{ url: string }];
    const pid = child.pid as number;
    await upload(url, 1_000_000); // What is loaded or compiled at the first request is not the upload's.
    const idleBytes = await treeMemoryBytes(pid);
    let highestBytes = idleBytes;
    const sampler = setInterval(async () => {
      highestBytes = Math.max(highestBytes, await treeMemoryBytes(pid));
    }, 50);
    const startedMs = performance.now();
    await upload(url, SIZE_BYTES);
    const seconds = (performance.now() - startedMs) / 1_000;
    clearInterval(sampler);
    return {
      server,
      idle_mb: idleBytes / 1e6,
      highest_mb: highestBytes / 1e6,
      mb_per_second: SIZE_BYTES / 1e6 / seconds,
    };
  } finally {
    child.disconnect();
    await once(child, 'exit');
  }
}

async function upload(url: string, sizeBytes: number): Promise<void> {
  const head = Buffer.from(
    '--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\n',
  );
  const tail = Buffer.from('\r\n--b--\r\n');
  const sending = request(`${url}/v1/transcriptions`, {
    method: 'POST',
    headers: {
      'content-type': 'multipart/form-data; boundary=b',
      'content-length': head.length + sizeBytes + tail.length,
    },
  });
  const answered = once(sending, 'response');
  sending.write(head);
  const piece = Buffer.alloc(PIECE_BYTES, 'zeroscribe');
  for (let sent = 0; sent < sizeBytes; sent += PIECE_BYTES) {
    if (!sending.write(piece.subarray(0, sizeBytes - sent))) await once(sending, 'drain');
  }
  sending.end(tail);
  const [response] = await answered;
  response.resume();
  if (response.statusCode !== 202) throw new Error(`the upload was answered with ${response.statusCode}`);
}
