import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { Client } from '../../cli/client.ts';
import { openSampleRecording } from '../../cli/recording.ts';
import { type Cloud, startCloud } from '../support/cloud.ts';
import { fakeSidecarCommand } from '../support/fake-sidecar.ts';
import { runCli } from '../support/run-cli.ts';
import { type Service, startService } from '../support/service.ts';
import { waitFor } from '../support/wait-for.ts';
import { type SmokeOptions, type SmokeResult, smoke } from './smoke.ts';

const KEY = 'a-key-of-the-tests';
let folder: string | undefined;
let service: Service | undefined;
let cloud: Cloud | undefined;

afterEach(async () => {
  await service?.stop();
  await cloud?.stop();
  if (folder !== undefined) await rm(folder, { recursive: true });
  folder = undefined;
  service = undefined;
  cloud = undefined;
});

async function oneMachine(env: Record<string, string>): Promise<{ url: string; folder: string }> {
  folder = await mkdtemp(join(tmpdir(), 'zeroscribe-smoke-'));
  service = await startService(join(folder, 'data'), env);
  return { url: service.url, folder };
}

async function smokeOf(
  client: Client,
  options: Partial<SmokeOptions> = {},
): Promise<SmokeResult & { lines: string[] }> {
  const lines: string[] = [];
  const result = await smoke({
    client,
    recording: await openSampleRecording(),
    expectedText: /\S/,
    isShort: false,
    timeoutMs: 180_000,
    signal: new AbortController().signal,
    say: (line) => lines.push(line),
    ...options,
  });
  return { ...result, lines };
}

test('the command tests a service with the real model, and nothing of it is left', async () => {
  const { url, folder: cwd } = await oneMachine({ API_KEYS: KEY, WHISPER_MODEL: 'tiny.en' });
  const env = { ZEROSCRIBE_URL: `${url}/`, ZEROSCRIBE_API_KEY: KEY };
  const { code, stdout, stderr } = await runCli(['deploy', 'smoke', '--short'], { cwd, env }).ended;
  expect(stderr).toBe('');
  expect(stdout).toMatch(/^Testing http:\/\/127\.0\.0\.1:\d+ with a recording of 30 s\n/);
  expect(stdout).toMatch(
    /ok {6}a recording sent as a form is transcribed: tr_\S+ on \S+, audio 30\.0 s, .+ work \d/,
  );
  expect(stdout).toMatch(/ok {6}every word has its times: \d+ words, times from attention/);
  expect(stdout).toMatch(/ok {6}a wrong key is refused/);
  expect(stdout).toMatch(/\d+ ok, \d skipped, 0 failed\n$/);
  expect(code).toBe(0);
  expect((await new Client(url, KEY).list()).data).toEqual([]);
}, 300_000);

test('in the cloud every way to upload is used', async () => {
  cloud = await startCloud({
    env: { 'gpu-service': { SIDECAR_COMMAND: JSON.stringify(fakeSidecarCommand('good')) } },
  });
  const { failed, lines } = await smokeOf(cloud.client);
  expect(lines.filter((line) => line.startsWith('FAILED'))).toEqual([]);
  expect(failed).toBe(0);
  expect(lines.filter((line) => line.startsWith('ok')).map((line) => line.slice(8))).toEqual(
    expect.arrayContaining([
      expect.stringMatching(/^a recording sent as a form is transcribed: tr_\S+ on cloud-run-service, /),
      expect.stringMatching(/^the same key of idempotency .+ \(tus\): tr_/),
      expect.stringMatching(/^a recording sent straight to the bucket: tr_/),
      expect.stringMatching(/^what is deleted is gone/),
    ]),
  );
  expect((await cloud.client.list()).data).toEqual([]);
}, 300_000);

test('a service that cannot transcribe fails with its own reason, and the rest is tried all the same', async () => {
  const { url } = await oneMachine({
    API_KEYS: KEY,
    SIDECAR_COMMAND: JSON.stringify(fakeSidecarCommand('failing', { reason: 'audio-unreadable' })),
  });
  const client = new Client(url, KEY);
  const { failed, skipped, lines } = await smokeOf(client, { isShort: true });
  expect(lines).toContainEqual(
    expect.stringMatching(/^FAILED {2}a recording sent as a form is transcribed: tr_\S+ is failed: .+/),
  );
  expect(failed).toBeGreaterThan(0);
  // Of what there is no transcript to look at.
  expect(skipped).toBeGreaterThanOrEqual(6);
  expect((await client.list()).data).toEqual([]);
}, 300_000);

test('another text than that of the recording is noticed', async () => {
  const { url } = await oneMachine({ SIDECAR_COMMAND: JSON.stringify(fakeSidecarCommand('good')) });
  const { lines } = await smokeOf(new Client(url), { isShort: true, expectedText: /New Jersey/ });
  expect(lines).toContainEqual(
    expect.stringMatching(/^FAILED {2}every word has its times: the text is not that of the recording/),
  );
  expect(lines).toContainEqual('skipped a wrong key is refused: the service asks for no key');
}, 300_000);

test('an interruption leaves nothing behind', async () => {
  const { url } = await oneMachine({
    SIDECAR_COMMAND: JSON.stringify(fakeSidecarCommand('good', { batchDelayMs: 60_000 })),
  });
  const client = new Client(url);
  const controller = new AbortController();
  const running = smokeOf(client, { signal: controller.signal });
  await waitFor('a transcription', async () => (await client.list()).data.length > 0);
  controller.abort(new Error('enough'));
  await expect(running).rejects.toThrow('enough');
  expect((await client.list()).data).toEqual([]);
}, 300_000);

test('what stands before a private service gets its token beside the key', async () => {
  const seen: IncomingHttpHeaders[] = [];
  const front = createServer((request, response) => {
    seen.push(request.headers);
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"data":[],"has_more":false}');
  });
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  const server = `http://127.0.0.1:${(front.address() as AddressInfo).port}`;
  const env = { ZEROSCRIBE_API_KEY: KEY, ZEROSCRIBE_IDENTITY_TOKEN: 'a-token' };
  const { code } = await runCli(['jobs', 'list', '--server', server], { cwd: tmpdir(), env }).ended;
  front.close();
  expect(code).toBe(0);
  expect(seen).toMatchObject([
    { authorization: `Bearer ${KEY}`, 'x-serverless-authorization': 'Bearer a-token' },
  ]);
});
