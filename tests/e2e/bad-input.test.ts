import { execFileSync } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Client } from '../../cli/client.ts';
import { readInstallation } from '../../core/installation.ts';
import { type Problem, problemSlug } from '../../core/problem.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { fakeSidecarCommand } from '../support/fake-sidecar.ts';
import { ffmpeg, noise, sine, wav } from '../support/media.ts';
import { type Service, startService } from '../support/service.ts';
import { submit, waitUntilSettled } from '../support/submit.ts';
import { waitFor } from '../support/wait-for.ts';

const installation = readInstallation();
let folder: string;
let service: Service;
let client: Client;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'zeroscribe-bad-'));
  service = await startService(join(folder, 'data'), { WHISPER_MODEL: installation.packaged_model.name });
  client = new Client(service.url);
});
afterEach(async () => {
  for (const { id } of (await client.list()).data) await client.delete(id);
  await nothingIsStored(join(folder, 'data'));
});
afterAll(async () => {
  expect(await service.stop()).toBe(0);
  await rm(folder, { recursive: true });
});

/** Every blob, and everything half written. */
async function storedFiles(dataDir: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of ['blobs', 'scratch']) {
    const entries = await readdir(join(dataDir, name), { recursive: true, withFileTypes: true }).catch(
      () => [],
    );
    found.push(...entries.filter((entry) => entry.isFile()).map((entry) => entry.name));
  }
  return found;
}

/** A job is settled a moment before what is left of it is removed. */
function nothingIsStored(dataDir: string): Promise<boolean> {
  return waitFor('everything to be gone', async () => (await storedFiles(dataDir)).length === 0);
}

function post(
  fields: Record<string, string>,
  file?: { name: string; type: string; bytes: Uint8Array<ArrayBuffer> | string },
): Promise<Response> {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.set(name, value);
  if (file !== undefined) form.set('file', new File([file.bytes], file.name, { type: file.type }));
  return fetch(`${service.url}/v1/transcriptions`, { method: 'POST', body: form });
}

const audio = { name: 'a.wav', type: 'audio/wav', bytes: Uint8Array.from(wav({ seconds: 1 }, sine)) };

describe('refused at submission', () => {
  test.each([
    ['zero bytes', {}, { ...audio, bytes: '' }, 422, 'media-empty'],
    [
      'a text file',
      {},
      { name: 'a.txt', type: 'text/plain', bytes: 'words' },
      415,
      'media-type-not-supported',
    ],
    ['an unknown option', { beam: '5' }, audio, 422, 'invalid-option'],
    ['an option of later', { webhook_url: 'https://example.com' }, audio, 422, 'not-supported'],
    [
      'min_speakers > max_speakers',
      { diarize: 'true', min_speakers: '3', max_speakers: '2' },
      audio,
      422,
      'invalid-option',
    ],
    ['a language that does not exist', { language: 'xx' }, audio, 422, 'invalid-option'],
    ['a language the model does not know', { language: 'de' }, audio, 422, 'language-not-available'],
    ['a model that is not there', { model: 'large-v99' }, audio, 422, 'model-not-available'],
    ['a translation by a model that cannot', { task: 'translate' }, audio, 422, 'translation-not-available'],
    ['speakers without a model for them', { diarize: 'true' }, audio, 422, 'diarization-not-configured'],
    ['no file', {}, undefined, 400, 'invalid-request'],
  ] as const)('%s', async (_, fields, file, status, slug) => {
    const response = await post(fields as unknown as Record<string, string>, file);
    const problem = (await response.json()) as Problem;
    expect([response.status, problemSlug(problem)]).toEqual([status, slug]);
    expect(response.headers.get('content-type')).toContain('application/problem+json');
    expect(problem.detail.length).toBeGreaterThan(20);
    await nothingIsStored(join(folder, 'data'));
    expect((await client.list()).data).toEqual([]);
  });

  test('a client that disconnects in mid-upload leaves nothing', async () => {
    const { hostname, port } = new URL(service.url);
    const socket = connect(Number(port), hostname);
    socket.write(
      `POST /v1/transcriptions HTTP/1.1\r\nHost: ${hostname}:${port}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 10000000\r\n\r\n`,
    );
    socket.write(
      '--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n',
    );
    socket.write(Buffer.alloc(1_000_000));
    await waitFor('the upload to begin', async () => (await storedFiles(join(folder, 'data'))).length > 0);
    socket.destroy();
    await waitFor(
      'the upload to be gone',
      async () => (await storedFiles(join(folder, 'data'))).length === 0,
    );
    expect((await client.list()).data).toEqual([]);
  });
});

describe('accepted, and then a failed job with only its record left', () => {
  test.each([
    ['text renamed to .mp3', 'media-unreadable', async () => Buffer.from('Dear diary, '.repeat(10_000))],
    ['a truncated mp4', 'media-unreadable', async () => (await video(['-c:a', 'aac'])).subarray(0, 90_000)],
    ['a video without audio', 'media-without-audio', () => video(['-an'])],
    ['0.05 s of audio', 'media-too-short', async () => wav({ seconds: 0.05 }, sine)],
  ] as const)(
    '%s',
    async (name, slug, make) => {
      const path = join(folder, `${name.replaceAll(/\W/g, '-')}.mp3`);
      await writeFile(path, await make());
      const settled = await waitUntilSettled(client, (await submit(client, path)).id);
      expect(settled.status).toBe('failed');
      expect(problemSlug(settled.problem as Problem)).toBe(slug);
      expect(settled.problem?.detail).not.toContain(folder);
      await nothingIsStored(join(folder, 'data'));
    },
    300_000,
  );

  async function video(audioOptions: string[]): Promise<Buffer> {
    const path = join(folder, 'video.mp4');
    await ffmpeg(installation.ffmpeg, [
      ...['-f', 'lavfi', '-i', 'testsrc=duration=2:size=320x240', '-f', 'lavfi', '-i', 'sine=duration=2'],
      ...['-c:v', 'mpeg4', ...audioOptions, path],
    ]);
    return readFile(path);
  }
});

describe('unusual but right', () => {
  test.each([
    ['pure silence', () => wav({ seconds: 5 })],
    [
      'noise',
      () => {
        const bytes = noise(5 * 16_000);
        return wav({ seconds: 5 }, (seconds) => ((bytes[Math.round(seconds * 16_000)] ?? 0) / 128 - 1) * 0.1);
      },
    ],
  ] as const)(
    '%s is a completed job without words, and says so',
    async (name, make) => {
      const path = join(folder, `${name}.wav`);
      await writeFile(path, make());
      const settled = await waitUntilSettled(client, (await submit(client, path)).id);
      expect(settled).toMatchObject({ status: 'completed', warnings: [{ code: 'no-speech' }] });
      expect(JSON.parse(await client.transcript(settled.id, 'json'))).toMatchObject({
        text: '',
        segments: [],
      });
    },
    300_000,
  );

  test.each([
    ['path characters', '../../etc/passwd\\..\\x.wav'],
    ['5,000 characters', `${'n'.repeat(5_000)}.wav`],
  ])(
    'a file name with %s is only a name',
    async (_, name) => {
      const response = await post({}, { ...audio, name });
      expect(response.status).toBe(202);
      const { source, id } = (await response.json()) as { source: { filename: string }; id: string };
      expect(source.filename).not.toMatch(/[/\\]/);
      expect(Buffer.byteLength(source.filename)).toBeLessThanOrEqual(255);
      await waitUntilSettled(client, id);
    },
    300_000,
  );
});

describe('a full disk', () => {
  const mount = join(tmpdir(), `zeroscribe-full-${process.pid}`);
  const mounted = mountSmallDisk(mount);
  const testOnSmallDisk = mounted ? test : test.skip;
  if (!mounted) console.warn('Skipped: a full disk. Mounting a small one needs root on Linux.');
  afterAll(async () => {
    if (mounted) execFileSync('umount', [mount]);
    await rm(mount, { recursive: true, force: true });
  });

  testOnSmallDisk(
    'is one problem for the upload, and the service goes on',
    async () => {
      const small = await startService(join(mount, 'data'), {
        SIDECAR_COMMAND: JSON.stringify(fakeSidecarCommand('good')),
      });
      try {
        const smallClient = new Client(small.url);
        const big = join(folder, 'big.wav');
        await writeFile(big, Buffer.concat([wav({ seconds: 1 }), Buffer.alloc(40_000_000)]));
        const refusal = await submit(smallClient, big).catch((error: { problem: Problem }) => error.problem);
        expect(problemSlug(refusal as Problem)).toBe('storage-full');
        await nothingIsStored(join(mount, 'data'));

        const settled = await waitUntilSettled(
          smallClient,
          (await submit(smallClient, sampleRecording(installation.python), { language: 'en' })).id,
        );
        expect(settled.status).toBe('completed');
      } finally {
        await small.stop();
      }
    },
    300_000,
  );
});

function mountSmallDisk(path: string): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false;
  try {
    execFileSync('mkdir', ['-p', path]);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', path], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
