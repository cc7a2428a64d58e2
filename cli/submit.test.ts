import { appendFileSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import {
  type FakeCloudStorage,
  startFakeCloudStorage,
} from '../tests/support/fake-cloud-storage/fake-cloud-storage.ts';
import { noise } from '../tests/support/media.ts';
import { type CliRun, runCli } from '../tests/support/run-cli.ts';
import { waitFor } from '../tests/support/wait-for.ts';
import { Client } from './client.ts';
import type { LocalInput } from './inputs.ts';
import { openRecording } from './recording.ts';
import { submit } from './submit.ts';
import { UploadStates } from './upload-state.ts';

jest.setTimeout(60_000);

const MIB = 1024 * 1024;
const SIZE_BYTES = 40 * MIB + 12_345;
// Its period fits no piece, so that bytes in the wrong place are noticed.
const CONTENT = Buffer.alloc(SIZE_BYTES, noise(1_000_003));

/** A service that takes uploads in pieces, and breaks them off where it is told to. */
class FakeService {
  readonly requests: string[] = [];
  readonly keys = new Set<string | undefined>();
  readonly uploads = new Map<string, { bytes: Buffer[]; sizeBytes: number }>();
  readonly created: Record<string, unknown>[] = [];
  readonly idempotencyKeys: unknown[] = [];
  /** Bytes of all pieces together after which the connection breaks, the next one first. */
  breakAfterBytes: number[] = [];
  /** What the next requests are answered with, by their method. */
  refusals: { method: string; status: number }[] = [];
  offersTus = true;
  /** Where the store takes the bytes itself. */
  storage: FakeCloudStorage | undefined;
  onBytes: (sentBytes: number) => void = () => {};
  isHeld = false;
  #received = 0;
  readonly #server = createServer((req, res) => {
    this.#serve(req, res).catch(() => req.socket.destroy());
  });

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  content(id: string): Buffer {
    return Buffer.concat(this.uploads.get(id)?.bytes ?? []);
  }

  async #serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { method = '', url = '' } = req;
    this.requests.push(`${method} ${url}`);
    this.keys.add(req.headers.authorization);
    if (url === '/v1/transcriptions') this.idempotencyKeys.push(req.headers['idempotency-key']);
    const refused = this.refusals.findIndex((refusal) => refusal.method === method);
    if (refused >= 0) {
      const [refusal] = this.refusals.splice(refused, 1);
      req.resume();
      res.writeHead(refusal?.status ?? 500).end();
      return;
    }
    const id = url.split('/').at(-1) ?? '';
    if (url === '/v1/uploads/direct') await this.#startDirect(req, res);
    else if (url === '/v1/uploads' && this.offersTus) this.#startTus(req, res);
    else if (this.uploads.has(id)) await this.#tus(id, req, res);
    else if (url === '/v1/transcriptions' && req.headers['content-type'] === 'application/json') {
      this.created.push(JSON.parse(await text(req)));
      res.writeHead(202).end(JSON.stringify({ id: 'tr_1' }));
    } else if (url === '/v1/transcriptions') {
      this.created.push({ formBytes: (await text(req.setEncoding('latin1'))).length });
      res.writeHead(202).end(JSON.stringify({ id: 'tr_1' }));
    } else {
      req.resume();
      res.writeHead(404).end();
    }
  }

  #startTus(req: IncomingMessage, res: ServerResponse): void {
    const id = `up_${this.uploads.size}`;
    this.uploads.set(id, { bytes: [], sizeBytes: Number(req.headers['upload-length']) });
    const expires = new Date(Date.now() + 86_400_000).toUTCString();
    // As behind a proxy that the service does not know of: only the id counts.
    const location = `http://backend.invalid/v1/uploads/${id}`;
    res.writeHead(201, { location, 'upload-expires': expires, 'tus-resumable': '1.0.0' }).end();
  }

  async #tus(id: string, req: IncomingMessage, res: ServerResponse): Promise<void> {
    const upload = this.uploads.get(id) ?? { bytes: [], sizeBytes: 0 };
    const offset = upload.bytes.reduce((sum, { length }) => sum + length, 0);
    const answer = (status: number, at: number) =>
      res
        .writeHead(status, {
          'upload-offset': at,
          'upload-length': upload.sizeBytes,
          'tus-resumable': '1.0.0',
        })
        .end();
    if (req.method === 'HEAD') return void answer(200, offset);
    if (Number(req.headers['upload-offset']) !== offset) return void answer(409, offset);
    let at = offset;
    for await (const piece of req as AsyncIterable<Buffer>) {
      upload.bytes.push(piece);
      at += piece.length;
      this.#received += piece.length;
      this.onBytes(at);
      if (this.isHeld) await waitFor('the end of the wait', () => !this.isHeld || req.destroyed);
      if (this.#received >= (this.breakAfterBytes[0] ?? Infinity)) {
        this.breakAfterBytes.shift();
        req.socket.destroy();
        return;
      }
    }
    if (req.complete) answer(204, at);
  }

  async #startDirect(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { size_bytes, content_type } = JSON.parse(await text(req));
    if (this.storage === undefined) return void res.writeHead(404).end();
    const id = `up_direct${this.created.length}_${this.requests.length}`;
    const target = `${this.storage.url}/upload/storage/v1/b/b/o?uploadType=resumable&name=${id}`;
    const started = await fetch(target, {
      method: 'POST',
      headers: { 'x-upload-content-length': size_bytes, 'x-upload-content-type': content_type },
    });
    res.writeHead(201).end(
      JSON.stringify({
        upload_id: id,
        url: started.headers.get('location'),
        method: 'PUT',
        headers: { 'x-of-the-service': 'kept' },
        expires_at: new Date(Date.now() + 86_400_000).toISOString(),
      }),
    );
  }
}

let folder: string;
let service: FakeService;
let notes: string[];
let runs: CliRun[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'submit-'));
  await writeFile(join(folder, 'talk.wav'), CONTENT);
  service = new FakeService();
  await service.start();
  notes = [];
  runs = [];
});
afterEach(async () => {
  for (const run of runs) run.process.kill('SIGKILL');
  await Promise.all(runs.map((run) => run.ended));
  await service.storage?.close();
  await service.stop();
  await rm(folder, { recursive: true, force: true });
});

const statesOf = (apiKey: string) =>
  new UploadStates({ server: service.url, apiKey }, join(folder, 'state', 'zeroscribe', 'uploads'));
const keptFiles = () => readdir(join(folder, 'state', 'zeroscribe', 'uploads')).catch(() => []);

async function send({
  apiKey = 'a secret',
  signal = new AbortController().signal,
  onUpload = (_sentBytes: number): void => {},
} = {}): Promise<unknown> {
  const recording = await openRecording(join(folder, 'talk.wav'));
  const input: LocalInput = { kind: 'file', name: 'talk.wav', outputName: 'talk.wav', recording };
  return await submit(new Client(service.url, apiKey), input, {
    options: { language: 'en' },
    signal,
    uploads: statesOf(apiKey),
    progress: { uploaded: onUpload, look() {}, note: (note) => void notes.push(note), warn() {}, end() {} },
  });
}

describe('a large recording', () => {
  test('arrives whole by tus, however often the connection breaks', async () => {
    service.breakAfterBytes = [3, 9 * MIB, 17 * MIB + 7, 18 * MIB, 30 * MIB, 41 * MIB];
    let sentBytes = 0;
    expect(await send({ onUpload: (bytes) => (sentBytes = bytes) })).toEqual({ id: 'tr_1' });
    expect(service.breakAfterBytes).toEqual([41 * MIB]);
    expect(service.content('up_0').equals(CONTENT)).toBe(true);
    expect(service.created).toMatchObject([{ source: { upload_id: 'up_0' }, language: 'en' }]);
    expect(service.keys).toEqual(new Set(['Bearer a secret']));
    expect(sentBytes).toBe(SIZE_BYTES);
    expect(await keptFiles()).toEqual([]);
  });

  test('is not sent anew because a proxy was without its service for a moment', async () => {
    service.breakAfterBytes = [20 * MIB];
    service.refusals = [
      { method: 'HEAD', status: 503 },
      { method: 'HEAD', status: 502 },
      { method: 'PATCH', status: 423 },
    ];
    await send();
    expect(service.content('up_0').equals(CONTENT)).toBe(true);
    expect(service.uploads.size).toBe(1);
  });

  test('goes on in a later run, with the same key for the same transcription', async () => {
    const stop = new AbortController();
    service.onBytes = (at) => at > 21 * MIB && stop.abort(new Error('enough'));
    await expect(send({ signal: stop.signal })).rejects.toThrow('enough');
    expect(notes).toEqual(['The upload is not finished: the same command goes on where it stopped.']);
    const [name = ''] = await keptFiles();
    const state = join(folder, 'state', 'zeroscribe', 'uploads', name);
    expect((await stat(state)).mode & 0o777).toBe(0o600);
    expect(await readFile(state, 'utf8')).not.toContain('secret');

    service.onBytes = () => {};
    service.requests.length = 0;
    service.refusals = [{ method: 'POST', status: 500 }];
    await expect(send()).rejects.toThrow('status 500');
    await send();
    expect(service.content('up_0').equals(CONTENT)).toBe(true);
    expect(service.requests.filter((request) => request.startsWith('POST'))).toEqual([
      'POST /v1/transcriptions',
      'POST /v1/transcriptions',
    ]);
    const [key] = service.idempotencyKeys;
    expect(service.idempotencyKeys).toEqual([expect.stringMatching(/^[0-9a-f]{64}$/), key]);
    expect(notes[1]).toMatch(/^The upload goes on at 2\d\.\d MB\.$/);
    expect(await keptFiles()).toEqual([]);
  });

  test('is nothing that another key goes on with', async () => {
    const stop = new AbortController();
    service.onBytes = () => stop.abort(new Error('enough'));
    await expect(send({ signal: stop.signal })).rejects.toThrow('enough');
    service.onBytes = () => {};
    await send({ apiKey: 'another' });
    expect(service.created).toMatchObject([{ source: { upload_id: 'up_1' } }]);
  });

  test('begins anew when the service has forgotten it', async () => {
    const recording = await openRecording(join(folder, 'talk.wav'));
    const expires_at = new Date(Date.now() + 60_000).toISOString();
    await statesOf('a secret').keep(recording, { kind: 'tus', upload_id: 'up_gone', expires_at });
    await send();
    expect(service.content('up_0').equals(CONTENT)).toBe(true);
    expect(await keptFiles()).toEqual([]);
  });

  test('that changes meanwhile is refused and forgotten', async () => {
    let isChanged = false;
    service.onBytes = (at) => {
      if (at < MIB || isChanged) return;
      isChanged = true;
      // At once: on a busy machine it could come after the last byte was read.
      appendFileSync(join(folder, 'talk.wav'), 'more');
    };
    await expect(send()).rejects.toThrow('changed while it was being uploaded');
    expect(service.created).toEqual([]);
    expect(await keptFiles()).toEqual([]);
  });

  test('is sent as a form where nothing else is offered', async () => {
    service.offersTus = false;
    await send();
    expect(service.created).toEqual([{ formBytes: expect.any(Number) }]);
  });

  test('is refused with what the service says', async () => {
    service.refusals = [{ method: 'PATCH', status: 403 }];
    await expect(send()).rejects.toThrow('status 403');
  });

  test('is kept by Ctrl-C, and the same command goes on', async () => {
    service.onBytes = (at) => {
      if (at > 18 * MIB) service.isHeld = true;
    };
    const start = () => {
      const run = runCli(['transcribe', 'talk.wav', '--server', service.url], {
        cwd: folder,
        env: { XDG_STATE_HOME: join(folder, 'state') },
      });
      runs.push(run);
      return run;
    };
    const first = start();
    await waitFor('half of it', () => service.isHeld);
    first.process.kill('SIGINT');
    const { code, stderr } = await first.ended;
    expect(stderr).toContain('the same command goes on where it stopped.\nInterrupted by SIGINT.\n');
    expect(code).toBe(130);

    service.onBytes = () => {};
    service.isHeld = false;
    const second = start();
    await waitFor('the transcription', () => service.created.length > 0);
    expect(second.stderr()).toMatch(/The upload goes on at \d+\.\d MB\.\n(.*\n)*upload: 42\.0 MB\n/);
    expect(service.content('up_0').equals(CONTENT)).toBe(true);
  });
});

describe('a large recording, where the store takes it itself', () => {
  beforeEach(async () => {
    service.storage = await startFakeCloudStorage({ folder: join(folder, 'storage'), buckets: ['b'] });
  });

  async function stored(id: string): Promise<Buffer> {
    const response = await fetch(`${service.storage?.url}/storage/v1/b/b/o/${id}?alt=media`);
    return Buffer.from(await response.arrayBuffer());
  }
  const uploadId = () => Object(service.created[0]?.source).upload_id as string;

  test('arrives whole, past the service', async () => {
    await send();
    expect((await stored(uploadId())).equals(CONTENT)).toBe(true);
    expect(service.uploads.size).toBe(0);
    expect(await keptFiles()).toEqual([]);
  });

  test('arrives whole through errors and lost answers', async () => {
    // The first piece breaks, the question how far it came fails, and the answer to the second piece is lost.
    service.storage?.inject({ operation: 'put-session', kind: 'break', afterBytes: 11 * MIB });
    service.storage?.inject({ operation: 'put-session', kind: 'status', status: 503 });
    service.storage?.inject({ operation: 'put-session', kind: 'lose-reply', after: 1 });
    await send();
    expect((await stored(uploadId())).equals(CONTENT)).toBe(true);
    const puts = service.storage?.requests.filter(({ operation }) => operation === 'put-session') ?? [];
    expect(puts.map(({ contentRange }) => contentRange)).toEqual([
      `bytes 0-${SIZE_BYTES - 1}/${SIZE_BYTES}`,
      `bytes */${SIZE_BYTES}`,
      `bytes */${SIZE_BYTES}`,
      `bytes ${11 * MIB}-${SIZE_BYTES - 1}/${SIZE_BYTES}`,
      `bytes */${SIZE_BYTES}`,
    ]);
  });

  test('goes on in a later run', async () => {
    const stop = new AbortController();
    const onUpload = (sentBytes: number) => sentBytes > 20 * MIB && stop.abort(new Error('enough'));
    await expect(send({ signal: stop.signal, onUpload })).rejects.toThrow('enough');
    expect(await keptFiles()).toHaveLength(1);
    await send();
    expect(notes.at(-1)).toMatch(/^The upload goes on at \d+\.\d MB\.$/);
    expect((await stored(uploadId())).equals(CONTENT)).toBe(true);
  });

  test('begins anew when the session is gone', async () => {
    service.storage?.inject({ operation: 'put-session', kind: 'status', status: 410 });
    await send();
    expect(service.requests.filter((request) => request === 'POST /v1/uploads/direct')).toHaveLength(2);
    expect((await stored(uploadId())).equals(CONTENT)).toBe(true);
  });
});
