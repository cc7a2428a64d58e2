import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Storage } from '@google-cloud/storage';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { waitFor } from '../wait-for.ts';
import { describeCloudStorage } from './cloud-storage.contract.ts';
import { controlFakeCloudStorage } from './control.ts';
import {
  type FakeCloudStorage,
  type FakeCloudStorageOptions,
  startFakeCloudStorage,
} from './fake-cloud-storage.ts';
import type { Fault } from './faults.ts';

const GRAIN = 256 * 1024;

describeCloudStorage('the fake', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'fake-cloud-storage-'));
  const fake = await startFakeCloudStorage({ folder });
  return {
    url: fake.url,
    createBucket: async (name) => {
      await fetch(`${fake.url}/storage/v1/b`, { method: 'POST', body: JSON.stringify({ name }) });
    },
    dispose: async () => {
      await fake.close();
      await rm(folder, { recursive: true });
    },
  };
});

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'fake-cloud-storage-'));
});
afterEach(() => rm(folder, { recursive: true }));

const objectUrl = (url: string, key: string, query = '') =>
  `${url}/storage/v1/b/bucket/o/${encodeURIComponent(key)}${query}`;
const insert = (url: string, key: string, body: string, query = '') =>
  fetch(`${url}/upload/storage/v1/b/bucket/o?uploadType=media&name=${key}${query}`, { method: 'POST', body });
const read = async (url: string, key: string) => (await fetch(objectUrl(url, key, '?alt=media'))).text();

describe('the fake', () => {
  let fake: FakeCloudStorage;
  const start = async (options: Partial<FakeCloudStorageOptions> = {}) => {
    fake = await startFakeCloudStorage({ folder, buckets: ['bucket'], ...options });
    return fake.url;
  };
  afterEach(() => fake.close());

  test('has one clock, which a test can set', async () => {
    let nowMs = Date.parse('2030-01-01T00:00:00.250Z');
    const url = await start({ now: () => nowMs });
    await insert(url, 'a', 'x');
    nowMs += 90_000;
    const response = await fetch(objectUrl(url, 'a', '?alt=media'));
    expect(response.headers.get('last-modified')).toBe('Tue, 01 Jan 2030 00:00:00 GMT');
    expect(response.headers.get('date')).toBe('Tue, 01 Jan 2030 00:01:30 GMT');
    const object = (await (await fetch(objectUrl(url, 'a'))).json()) as Record<string, string>;
    expect(object.updated).toBe('2030-01-01T00:00:00.250Z');
    fake.setClockOffset(-1_000);
    expect((await fetch(objectUrl(url, 'a'))).headers.get('date')).toBe('Tue, 01 Jan 2030 00:01:29 GMT');
  });

  test('has higher generations although its clock runs backwards', async () => {
    let nowMs = Date.now();
    const url = await start({ now: () => nowMs });
    const generation = async () =>
      ((await (await insert(url, 'a', 'x')).json()) as { generation: string }).generation;
    const first = await generation();
    nowMs -= 3_600_000;
    expect(BigInt(await generation())).toBeGreaterThan(BigInt(first));
  });

  test('lets an object be written once a second, if that is asked for', async () => {
    const url = await start({ limitsRate: true });
    expect((await insert(url, 'a', '1')).status).toBe(200);
    expect((await insert(url, 'b', '1')).status).toBe(200);
    const refused = await insert(url, 'a', '2');
    expect(refused.status).toBe(429);
    expect(await refused.json()).toMatchObject({
      error: { code: 429, errors: [{ reason: 'rateLimitExceeded' }] },
    });
    expect(await read(url, 'a')).toBe('1');
    await waitFor('the second to be over', async () => (await insert(url, 'a', '3')).ok, { intervalMs: 100 });
  });

  const FAULTS: [what: string, fault: Fault, status: number | undefined, isStored: boolean][] = [
    ['status refuses', { kind: 'status', status: 503 }, 503, false],
    ['stall never answers', { kind: 'stall' }, undefined, false],
    ['break ends the connection', { kind: 'break', afterBytes: 5 }, undefined, false],
    ['lose-reply does it and does not say so', { kind: 'lose-reply' }, undefined, true],
    ['late does it when nobody waits any more', { kind: 'late', ms: 150 }, undefined, true],
    ['corrupt stores something else', { kind: 'corrupt' }, 200, true],
  ];
  test.each(FAULTS)('of a write, %s', async (_, fault, status, isStored) => {
    const url = await start({ faults: [{ ...fault, operation: 'insert' }] });
    const init = { method: 'POST', body: 'the body', signal: AbortSignal.timeout(75) };
    const asked = fetch(`${url}/upload/storage/v1/b/bucket/o?uploadType=media&name=a`, init);
    if (status === undefined) await expect(asked).rejects.toThrow();
    else expect((await asked).status).toBe(status);
    await waitFor('the request to end', () => fake.requests.length === 1);
    expect(fake.requests).toMatchObject([
      { operation: 'insert', name: 'a', status: status ?? null, fault: fault.kind },
    ]);
    expect((await fetch(objectUrl(url, 'a'))).status).toBe(isStored ? 200 : 404);
    if (isStored) expect((await read(url, 'a')) === 'the body').toBe(fault.kind !== 'corrupt');
    expect(fake.leftovers()).toEqual([]);
    expect((await insert(url, 'a', 'again')).status).toBe(200);
  });

  test.each([
    ['break ends the connection', { kind: 'break', afterBytes: 4 }, undefined],
    ['truncate looks complete', { kind: 'truncate', afterBytes: 4 }, 'the '],
    ['corrupt has another first byte', { kind: 'corrupt' }, '\ufffdhe body'],
  ] as const)('of a download, %s', async (_, fault, expected) => {
    const url = await start();
    await insert(url, 'a', 'the body');
    fake.inject({ ...fault, operation: 'download' });
    if (expected === undefined) await expect(read(url, 'a')).rejects.toThrow();
    else expect(await read(url, 'a')).toBe(expected);
    expect(await read(url, 'a')).toBe('the body');
  });

  test('a fault meets the requests it names, so many of them, after so many others', async () => {
    const url = await start();
    fake.inject({
      kind: 'status',
      status: 503,
      operation: ['insert', 'delete'],
      namePrefix: 'b',
      after: 1,
      times: 2,
    });
    const answers = async (key: string, times: number) => {
      const statuses: number[] = [];
      for (let i = 0; i < times; i++) statuses.push((await insert(url, key, 'x')).status);
      return statuses;
    };
    expect(await answers('a', 2)).toEqual([200, 200]);
    expect(await answers('b', 4)).toEqual([200, 503, 503, 200]);
  });

  test('keeps whole grains of a chunk that breaks off', async () => {
    const url = await start();
    const begun = await fetch(`${url}/upload/storage/v1/b/bucket/o?uploadType=resumable&name=a`, {
      method: 'POST',
    });
    const session = begun.headers.get('location') ?? '';
    fake.inject({ kind: 'break', afterBytes: GRAIN + 1_000 });
    const headers = { 'content-range': `bytes 0-${2 * GRAIN - 1}/*` };
    await expect(fetch(session, { method: 'PUT', headers, body: 'x'.repeat(2 * GRAIN) })).rejects.toThrow();
    const asked = await fetch(session, { method: 'PUT', headers: { 'content-range': 'bytes */*' } });
    expect([asked.status, asked.headers.get('range')]).toEqual([308, `bytes=0-${GRAIN - 1}`]);
    expect(fake.leftovers()).toEqual(['a']);
  });

  test('keeps nothing of more than was said at the start of a session', async () => {
    const url = await start();
    const begun = await fetch(`${url}/upload/storage/v1/b/bucket/o?uploadType=resumable&name=a`, {
      method: 'POST',
      headers: { 'x-upload-content-length': '5' },
    });
    const session = begun.headers.get('location') ?? '';
    expect((await fetch(session, { method: 'PUT', body: 'x'.repeat(GRAIN + 1) })).status).toBe(400);
    const asked = await fetch(session, { method: 'PUT', headers: { 'content-range': 'bytes */5' } });
    expect([asked.status, asked.headers.get('range')]).toEqual([308, null]);
    expect((await fetch(session, { method: 'DELETE' })).status).toBe(499);
  });

  test('lets the page send to a session that the session was begun for', async () => {
    const url = await start();
    const origin = 'https://page.example';
    const begin = async (headers: Record<string, string>) => {
      const target = `${url}/upload/storage/v1/b/bucket/o?uploadType=resumable&name=a`;
      return (await fetch(target, { method: 'POST', headers })).headers.get('location') ?? '';
    };
    const allowed = async (session: string, method: string) =>
      (await fetch(session, { method, headers: { origin } })).headers.get('access-control-allow-origin');
    const session = await begin({ origin });
    expect([await allowed(session, 'OPTIONS'), await allowed(session, 'PUT')]).toEqual([origin, origin]);
    expect(await allowed(await begin({}), 'PUT')).toBeNull();
  });

  test('takes several calls for a rewrite of much, if that is asked for', async () => {
    const url = await start({ bytesPerRewrite: 4 });
    await insert(url, 'a', '0123456789');
    await insert(url, 'b', '0123456789');
    const rewrite = async (from: string, rewriteToken = '') => {
      const query = rewriteToken === '' ? '' : `?rewriteToken=${rewriteToken}`;
      const response = await fetch(objectUrl(url, from, `/rewriteTo/b/bucket/o/c${query}`), {
        method: 'POST',
      });
      return [response.status, (await response.json()) as { done: boolean; rewriteToken: string }] as const;
    };
    const [, first] = await rewrite('a');
    expect(first).toMatchObject({ done: false, totalBytesRewritten: '4', objectSize: '10' });
    expect((await rewrite('b', first.rewriteToken))[0]).toBe(400);
    const [, second] = await rewrite('a', first.rewriteToken);
    expect(second).toMatchObject({ done: false, totalBytesRewritten: '8' });
    expect((await fetch(objectUrl(url, 'c'))).status).toBe(404);
    expect((await rewrite('a', second.rewriteToken))[1]).toMatchObject({
      done: true,
      resource: { name: 'c' },
    });
    expect(await read(url, 'c')).toBe('0123456789');
  });

  test('a bucket must have been made', async () => {
    const url = await start({ buckets: [] });
    const response = await insert(url, 'a', 'x');
    expect([response.status, await response.json()]).toMatchObject([
      404,
      { error: { message: 'The specified bucket does not exist.' } },
    ]);
  });
});

describe('the fake as a process', () => {
  const children: ChildProcess[] = [];
  const start = async (...args: string[]) => {
    const main = path.join(import.meta.dirname, 'main.ts');
    const child = spawn(process.execPath, [main, '--folder', folder, '--bucket', 'bucket', ...args], {
      env: { ...process.env, NODE_OPTIONS: '' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    return { child, url: (JSON.parse(line) as { url: string }).url };
  };
  const end = async (child: ChildProcess, signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    await exit;
  };
  afterEach(async () => {
    for (const child of children.splice(0)) await end(child, 'SIGKILL');
  });

  test('goes on after it was killed with its objects and its sessions', async () => {
    const first = await start();
    const { generation } = (await (await insert(first.url, 'a', 'kept')).json()) as { generation: string };
    await insert(first.url, 'gone', 'x');
    await fetch(objectUrl(first.url, 'gone'), { method: 'DELETE' });
    const uploadUrl = `${first.url}/upload/storage/v1/b/bucket/o?uploadType=resumable&name=big`;
    const session = (await fetch(uploadUrl, { method: 'POST' })).headers.get('location') ?? '';
    const put = (range: string, body: string) =>
      fetch(session, { method: 'PUT', headers: { 'content-range': `bytes ${range}` }, body });
    await put(`0-${GRAIN - 1}/*`, 'x'.repeat(GRAIN));
    await end(first.child, 'SIGKILL');

    const second = await start('--port', new URL(first.url).port);
    expect(second.url).toBe(first.url);
    expect(await read(second.url, 'a')).toBe('kept');
    expect((await fetch(objectUrl(second.url, 'gone'))).status).toBe(404);
    expect((await put('*/*', '')).headers.get('range')).toBe(`bytes=0-${GRAIN - 1}`);
    expect((await put(`${GRAIN}-${GRAIN + 2}/${GRAIN + 3}`, 'end')).status).toBe(200);
    expect(await read(second.url, 'big')).toHaveLength(GRAIN + 3);
    const next = (await (await insert(second.url, 'a', 'new')).json()) as { generation: string };
    expect(BigInt(next.generation)).toBeGreaterThan(BigInt(generation));
  }, 60_000);

  test('is controlled from afar', async () => {
    const { url } = await start('--clock-offset-ms', '60000');
    const control = controlFakeCloudStorage(url);
    const offsetMs = async () =>
      Date.parse((await fetch(objectUrl(url, 'a'))).headers.get('date') ?? '') - Date.now();
    expect(await offsetMs()).toBeGreaterThan(50_000);
    await control.setClockOffset(-60_000);
    expect(await offsetMs()).toBeLessThan(-50_000);
    await control.inject({ kind: 'status', status: 429, operation: 'insert', times: 5 });
    expect((await insert(url, 'a', 'x')).status).toBe(429);
    await control.clearFaults();
    expect((await insert(url, 'a', 'x')).status).toBe(200);
    expect((await control.requests()).map(({ operation, status }) => [operation, status])).toEqual([
      ['get', 404],
      ['get', 404],
      ['insert', 429],
      ['insert', 200],
    ]);
    expect(await control.leftovers()).toEqual([]);
  }, 60_000);

  test('takes big objects through little memory, and leaves nothing of those that are gone', async () => {
    const { url, child } = await start();
    const file = new Storage({ apiEndpoint: url, projectId: 'project' }).bucket('bucket').file('big');
    const piece = Buffer.alloc(1024 * 1024, 'x');
    const upload = file.createWriteStream({
      chunkSize: 8 * piece.length,
      preconditionOpts: { ifGenerationMatch: 0 },
    });
    for (let i = 0; i < 96; i++) if (!upload.write(piece)) await once(upload, 'drain');
    upload.end();
    await once(upload, 'finish');
    let sizeBytes = 0;
    const { body } = await fetch(objectUrl(url, 'big', '?alt=media'));
    for await (const received of body ?? []) sizeBytes += (received as Uint8Array).length;
    expect(sizeBytes).toBe(96 * piece.length);
    if (process.platform === 'linux') {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
      expect(Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024).toBeLessThan(250);
    }
    await file.delete();
    expect(await readdir(path.join(folder, 'data'))).toEqual([]);
    await end(child, 'SIGTERM');
    expect(child.exitCode).toBe(0);
  }, 60_000);
});
