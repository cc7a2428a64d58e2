import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { Storage } from '@google-cloud/storage';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Client, type Source, type Transcription } from '../../cli/client.ts';
import type { ApiProblem } from '../../cli/service-errors.ts';
import { GcsBlobs } from '../../core/blobs/gcs-blobs.ts';
import { readInstallation } from '../../core/installation.ts';
import { type Problem, problemSlug } from '../../core/problem.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import {
  type FakeCloudStorage,
  startFakeCloudStorage,
} from '../support/fake-cloud-storage/fake-cloud-storage.ts';
import { fakeSidecarCommand } from '../support/fake-sidecar.ts';
import { type Origin, sendFile, startOrigin } from '../support/origin.ts';
import { clipped } from '../support/recordings.ts';
import { type Service, startService } from '../support/service.ts';
import { submit, waitUntilSettled } from '../support/submit.ts';
import { waitFor } from '../support/wait-for.ts';

const installation = readInstallation();
const BUCKET = 'talks';

let folder: string;
/** Two sentences of the sample. */
let recording: Buffer;
let origin: Origin;
let cloud: FakeCloudStorage;
let storage: Storage;
let service: Service;
let client: Client;
/** The words of the recording when it is uploaded. */
let uploaded: string;
/** What the origin does, as each test wants it. */
let answer: (req: IncomingMessage, res: ServerResponse) => void;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'zeroscribe-sources-'));
  const path = await clipped(
    installation.ffmpeg,
    sampleRecording(installation.python),
    // More than a megabyte of them, so that a connection can break in the middle.
    { fromSeconds: 10.7, toSeconds: 17.7, output: ['-ar', '48000', '-ac', '2'] },
    join(folder, 'recording.wav'),
  );
  recording = await readFile(path);
  origin = await startOrigin((req, res) => answer(req, res));
  const certificate = join(folder, 'origin.pem');
  await writeFile(certificate, origin.cert);
  cloud = await startFakeCloudStorage({ folder: join(folder, 'cloud'), buckets: [BUCKET, 'others'] });
  storage = new Storage({ apiEndpoint: cloud.url, projectId: 'test' });
  service = await startService(join(folder, 'data'), {
    WHISPER_MODEL: installation.packaged_model.name,
    LINK_NETWORKS: '127.0.0.0/8',
    NODE_EXTRA_CA_CERTS: certificate,
    STORAGE_API_ENDPOINT: cloud.url,
    GCS_SOURCES: `gs://${BUCKET}/open/`,
  });
  client = new Client(service.url);
  const { id } = await submit(client, path, { language: 'en' });
  await waitUntilSettled(client, id);
  uploaded = await client.transcript(id, 'txt');
  expect(uploaded).toMatch(/this is Diane in New Jersey/i);
}, 300_000);

afterEach(() => {
  origin.requests.length = 0;
});

afterAll(async () => {
  expect(await service.stop()).toBe(0);
  await origin.close();
  await cloud.close();
  await rm(folder, { recursive: true });
});

const start = (source: Source, options: Record<string, string> = {}): Promise<Transcription> =>
  client.createFrom(source, { language: 'en', ...options });

async function finish(source: Source, options: Record<string, string> = {}): Promise<Transcription> {
  return await waitUntilSettled(client, (await start(source, options)).id);
}

/** Of a request that is refused, or of a job that failed. */
async function problemOf(outcome: Promise<Transcription>): Promise<[slug: string, field: unknown]> {
  const problem = await outcome.then(
    (settled) => settled.problem,
    (error: unknown) => (error as ApiProblem).problem,
  );
  return [problemSlug(problem as Problem), problem?.field];
}

describe('a link', () => {
  test('gives the words of the recording it leads to, and shows how much of what has arrived', async () => {
    const half = recording.length / 2;
    const { promise: isSeen, resolve: seen } = Promise.withResolvers<void>();
    answer = (_, res) => {
      res.writeHead(200, {
        'content-type': 'audio/wav',
        'content-length': recording.length,
        'content-disposition': 'attachment; filename="minutes.wav"',
        etag: '"1"',
      });
      res.write(recording.subarray(0, half));
      isSeen.then(() => res.end(recording.subarray(half)));
    };
    const { id, source } = await start({ url: `${origin.url}/2026/board%20meeting.wav?token=s3cret` });
    expect(source).toMatchObject({ type: 'url', filename: 'board meeting.wav', bytes: null });

    const fetching = await waitFor('half of it to arrive', async () => {
      const { stage, progress, source } = await client.get(id);
      const [fetch] = progress.stages;
      return fetch?.progress?.done === half ? { stage, filename: source.filename, ...fetch } : undefined;
    });
    expect(fetching).toMatchObject({
      stage: 'fetch',
      filename: 'minutes.wav',
      name: 'fetch',
      status: 'running',
      progress: { done: half, total: recording.length, unit: 'bytes' },
    });
    seen();

    const settled = await waitUntilSettled(client, id);
    expect(settled).toMatchObject({
      status: 'completed',
      warnings: [],
      source: { type: 'url', filename: 'minutes.wav', bytes: recording.length },
    });
    expectAllFetched(settled);
    expect(await client.transcript(id, 'txt')).toBe(uploaded);
    expect(origin.requests).toHaveLength(1);
    // Who has a signed link has the recording, so the log is no place for it.
    expect(JSON.stringify(service.log)).not.toContain('s3cret');
  }, 300_000);

  test('whose connection breaks goes on where it stopped', async () => {
    const cutAfter = 400_000;
    answer = (req, res) => sendFile(req, res, recording, origin.requests.length === 1 ? { cutAfter } : {});
    const settled = await finish({ url: `${origin.url}/talk.wav` });
    expect(settled).toMatchObject({ status: 'completed', source: { bytes: recording.length } });
    expect(await client.transcript(settled.id, 'txt')).toBe(uploaded);
    const [whole, rest, ...more] = origin.requests.map(({ headers }) => headers.range);
    expect(whole).toBeUndefined();
    expect(more).toEqual([]);
    // What was on the way when the connection broke need not have arrived.
    const resumedAt = Number(/^bytes=(\d+)-$/.exec(rest ?? '')?.[1]);
    expect(resumedAt).toBeGreaterThan(0);
    expect(resumedAt).toBeLessThanOrEqual(cutAfter);
  }, 300_000);

  test('that leads nowhere is a failed job, and nobody asks again', async () => {
    answer = (_, res) => res.writeHead(404, { 'content-type': 'text/html' }).end('<h1>Not here</h1>');
    const settled = await finish({ url: `${origin.url}/gone.wav` });
    expect(settled).toMatchObject({ status: 'failed', duration_seconds: null });
    expect(problemSlug(settled.problem as Problem)).toBe('link-failed');
    expect(origin.requests).toHaveLength(1);
  }, 300_000);

  test('to a private address is refused at once where the operator has not opened it', async () => {
    const closed = await startService(join(folder, 'closed'), {
      SIDECAR_COMMAND: JSON.stringify(fakeSidecarCommand('good')),
    });
    try {
      const connections = origin.connections;
      const other = new Client(closed.url);
      expect(await problemOf(other.createFrom({ url: `${origin.url}/talk.wav` }, {}))).toEqual([
        'link-refused',
        'source',
      ]);
      expect((await other.list()).data).toEqual([]);
      expect(origin.connections).toBe(connections);
    } finally {
      await closed.stop();
    }
  }, 300_000);
});

function expectAllFetched({ progress }: Transcription): void {
  expect(progress.stages[0]).toMatchObject({
    name: 'fetch',
    status: 'done',
    progress: { done: recording.length, total: recording.length, unit: 'bytes' },
  });
}

describe('an object of Cloud Storage', () => {
  const inBucket = (name: string) => new GcsBlobs(storage.bucket(name));
  const put = (key: string, content: Buffer | string, bucket = BUCKET) =>
    inBucket(bucket).write(key, Readable.from([Buffer.from(content)]), { contentType: 'audio/wav' });
  const read = async (key: string): Promise<string> => text(await inBucket(BUCKET).read(key));

  test('gives its words, and has its transcript beside it', async () => {
    await put('open/2026/board.wav', recording);
    const settled = await finish(
      { gcs_uri: `gs://${BUCKET}/open/2026/board.wav` },
      { save_beside_source: 'srt,json' },
    );
    expect(settled).toMatchObject({
      status: 'completed',
      warnings: [],
      source: { type: 'gcs', filename: 'board.wav', bytes: recording.length },
    });
    expectAllFetched(settled);
    expect(await client.transcript(settled.id, 'txt')).toBe(uploaded);
    for (const format of ['srt', 'json']) {
      expect(await read(`open/2026/board.${format}`)).toBe(await client.transcript(settled.id, format));
    }
    const keys: string[] = [];
    for await (const { key } of inBucket(BUCKET).list('open/2026/')) keys.push(key);
    expect(keys.sort()).toEqual(['json', 'srt', 'wav'].map((end) => `open/2026/board.${end}`));
  }, 300_000);

  test('is transcribed all the same where something else lies beside it', async () => {
    await put('open/notes.wav', recording);
    await put('open/notes.srt', 'my own notes');
    const settled = await finish({ gcs_uri: `gs://${BUCKET}/open/notes.wav` }, { save_beside_source: 'srt' });
    expect(settled).toMatchObject({
      status: 'completed',
      problem: null,
      warnings: [{ code: 'save-failed' }],
    });
    expect(settled.warnings[0]?.message).toContain('open/notes.srt');
    expect(await read('open/notes.srt')).toBe('my own notes');
    expect(await client.transcript(settled.id, 'txt')).toBe(uploaded);
  }, 300_000);

  test('that is not allowed is refused at once, and one that is not there fails', async () => {
    await put('closed/board.wav', recording);
    await put('open/board.wav', recording, 'others');
    for (const address of [`gs://${BUCKET}/closed/board.wav`, 'gs://others/open/board.wav']) {
      expect(await problemOf(start({ gcs_uri: address }))).toEqual(['gcs-source-refused', 'source']);
    }
    const settled = await finish({ gcs_uri: `gs://${BUCKET}/open/nothing.wav` });
    expect(settled.status).toBe('failed');
    expect(problemSlug(settled.problem as Problem)).toBe('gcs-source-refused');
  }, 300_000);
});
