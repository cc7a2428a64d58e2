import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request as requestHttp1 } from 'node:http';
import { connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import * as tus from 'tus-js-client';
import { machineFacts } from './machine.ts';
import { treeMemoryBytes } from './measure-process.ts';
import { printTable } from './print-table.ts';
import { writeResults } from './results.ts';
import type { UploadServer } from './upload-server.ts';

const SIZE_BYTES = 10 ** 9;
const WARM_UP_BYTES = 10 ** 6;
const TUS_PIECE_BYTES = 16 * 2 ** 20;
/** Between two looks at the memory of the server. */
const SAMPLE_INTERVAL_MS = 50;

interface MediaFile {
  path: string;
  sizeBytes: number;
}

/** From the first byte sent until the transcription is accepted. */
interface Way {
  name: string;
  server: UploadServer;
  upload(url: string, file: MediaFile): Promise<void>;
}

const WAYS: readonly Way[] = [
  { name: 'Express + multer to disk', server: 'multer', upload: uploadOverHttp1 },
  { name: 'zeroscribe, multipart over HTTP/1', server: 'zeroscribe', upload: uploadOverHttp1 },
  { name: 'zeroscribe, multipart over HTTP/2', server: 'zeroscribe-http2', upload: uploadOverHttp2 },
  { name: 'zeroscribe, tus in pieces of 16 MiB', server: 'zeroscribe', upload: uploadByTus },
];

/** How much memory an upload of one file costs the API each way, and how fast it is, beside plain Express with multer. */
export async function benchUpload(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'upload-'));
  try {
    const file = await writeMedia(join(folder, 'media.mp4'), SIZE_BYTES);
    const warmUp = await writeMedia(join(folder, 'warm-up.mp4'), WARM_UP_BYTES);
    const rows = [];
    for (const way of WAYS) rows.push(await measure(way, file, warmUp));
    await writeResults('upload', { machine: machineFacts(), size_bytes: SIZE_BYTES, rows });
    printTable(
      [`${SIZE_BYTES / 1e9} GB upload`, 'idle', 'highest', 'more', 'MB/s'],
      rows.map(({ name, idle_mb, highest_mb, mb_per_second }) => [
        name,
        ...[idle_mb, highest_mb, highest_mb - idle_mb].map((mb) => `${mb.toFixed(0)} MB`),
        mb_per_second.toFixed(0),
      ]),
    );
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function measure({ name, server, upload }: Way, file: MediaFile, warmUp: MediaFile) {
  const child = fork(join(import.meta.dirname, 'upload-server.ts'), [server], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  try {
    const [{ url }] = (await once(child, 'message')) as [{ url: string }];
    const pid = child.pid as number;
    await upload(url, warmUp); // What is loaded or compiled at the first request is not the upload's.
    const idleBytes = await treeMemoryBytes(pid);
    let highestBytes = idleBytes;
    const sampler = setInterval(async () => {
      highestBytes = Math.max(highestBytes, await treeMemoryBytes(pid));
    }, SAMPLE_INTERVAL_MS);
    const startedMs = performance.now();
    await upload(url, file);
    const seconds = (performance.now() - startedMs) / 1_000;
    clearInterval(sampler);
    return {
      name,
      idle_mb: idleBytes / 1e6,
      highest_mb: highestBytes / 1e6,
      mb_per_second: file.sizeBytes / 1e6 / seconds,
    };
  } finally {
    if (child.connected) child.disconnect();
    if (child.exitCode === null) await once(child, 'exit');
  }
}

async function writeMedia(path: string, sizeBytes: number): Promise<MediaFile> {
  const piece = Buffer.alloc(2 ** 20, 'zeroscribe');
  await writeFile(
    path,
    (function* () {
      for (let at = 0; at < sizeBytes; at += piece.length) yield piece.subarray(0, sizeBytes - at);
    })(),
  );
  return { path, sizeBytes };
}

const FORM_HEAD = Buffer.from(
  '--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\nContent-Type: video/mp4\r\n\r\n',
);
const FORM_TAIL = Buffer.from('\r\n--b--\r\n');

function formHeaders({ sizeBytes }: MediaFile) {
  return {
    'content-type': 'multipart/form-data; boundary=b',
    'content-length': FORM_HEAD.length + sizeBytes + FORM_TAIL.length,
  };
}

async function sendForm(file: MediaFile, to: Writable): Promise<void> {
  await pipeline(async function* () {
    yield FORM_HEAD;
    yield* createReadStream(file.path, { highWaterMark: 256 * 1024 });
    yield FORM_TAIL;
  }, to);
}

async function uploadOverHttp1(url: string, file: MediaFile): Promise<void> {
  const sending = requestHttp1(`${url}/v1/transcriptions`, { method: 'POST', headers: formHeaders(file) });
  const [[response]] = await Promise.all([once(sending, 'response'), sendForm(file, sending)]);
  response.resume();
  requireAccepted(response.statusCode);
}

async function uploadOverHttp2(url: string, file: MediaFile): Promise<void> {
  const session = connect(url);
  try {
    const sending = session.request({
      ':method': 'POST',
      ':path': '/v1/transcriptions',
      ...formHeaders(file),
    });
    const [[headers]] = await Promise.all([once(sending, 'response'), sendForm(file, sending)]);
    requireAccepted(headers[':status']);
  } finally {
    session.destroy();
  }
}

async function uploadByTus(url: string, file: MediaFile): Promise<void> {
  const media = createReadStream(file.path);
  const address = await new Promise<string>((resolve, reject) => {
    const upload: tus.Upload = new tus.Upload(media, {
      endpoint: `${url}/v1/uploads`,
      chunkSize: TUS_PIECE_BYTES,
      metadata: { filename: 'a.mp4', filetype: 'video/mp4' },
      retryDelays: null,
      onSuccess: () => resolve(upload.url as string),
      onError: reject,
    });
    upload.start();
  }).finally(() => media.destroy());
  const response = await fetch(`${url}/v1/transcriptions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ source: { upload_id: address.slice(address.lastIndexOf('/') + 1) } }),
  });
  requireAccepted(response.status);
  await response.arrayBuffer();
}

function requireAccepted(status: number | undefined): void {
  if (status !== 202) throw new Error(`the upload was answered with ${status}`);
}
