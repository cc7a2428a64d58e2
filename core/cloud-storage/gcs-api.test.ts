import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Storage, type StorageOptions } from '@google-cloud/storage';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { OAuth2Client } from 'google-auth-library';
import { GcsApi, inParallel } from './gcs-api.ts';

describe('GcsApi', () => {
  let server: Server;
  let url: string;
  let received: { url: string; headers: IncomingHttpHeaders }[];

  beforeEach(async () => {
    received = [];
    server = createServer((req, res) => {
      received.push({ url: req.url ?? '', headers: req.headers });
      res.writeHead(404).end();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });

  const open = (options: StorageOptions) =>
    new GcsApi(new Storage({ apiEndpoint: url, projectId: 'project', ...options }).bucket('bucket'), {
      totalMs: 50,
      backoff: { minMs: 5, maxMs: 5, maxDoublings: 0 },
    });
  const signedIn = () => {
    const authClient = new OAuth2Client();
    authClient.setCredentials({ access_token: 'the-token', expiry_date: Date.now() + 3_600_000 });
    return { authClient, useAuthWithCustomEndpoint: true };
  };

  test('escapes the name of an object', async () => {
    await open({}).find('a/b c?d#e%f');
    expect(received[0]?.url).toMatch(/^\/storage\/v1\/b\/bucket\/o\/a%2Fb%20c%3Fd%23e%25f\?fields=/);
  });

  test('signs in as its client does', async () => {
    await open(signedIn()).find('a');
    expect(received[0]?.headers.authorization).toBe('Bearer the-token');
  });

  test('shows no token to an emulator, nor to the address of a session', async () => {
    await open({}).find('a');
    const api = open(signedIn());
    const session = api.uploadUrl({ uploadType: 'resumable', upload_id: 'id' });
    await api.request({ method: 'PUT', url: session }, [404], AbortSignal.timeout(5_000));
    expect(received.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined]);
  });

  test('keeps what it was told about a token that it could not get to itself', async () => {
    const { authClient, ...options } = signedIn();
    authClient.getRequestHeaders = () =>
      Promise.reject(Object.assign(new Error('refused: the-token'), { code: '400' }));
    const failure = await open({ authClient, ...options })
      .find('a')
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ message: 'no access token for Cloud Storage could be had (400)' });
    expect((failure as Error).cause).toBeUndefined();
    expect(received).toEqual([]);
  });

  test('gives up on a host that does not answer', async () => {
    const api = open({ apiEndpoint: 'http://127.0.0.1:9' });
    await expect(api.find('a')).rejects.toThrow('the connection to Cloud Storage broke');
  });
});

describe('inParallel', () => {
  test('does all of it, and never more than so many at a time', async () => {
    let running = 0;
    let most = 0;
    const done: number[] = [];
    await inParallel([1, 2, 3, 4, 5, 6, 7], 3, async (item) => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 5));
      running--;
      done.push(item);
    });
    expect(done.sort()).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(most).toBe(3);
  });

  test('ends with the first failure, and begins nothing after it', async () => {
    const begun: number[] = [];
    const working = inParallel([1, 2, 3, 4, 5, 6], 2, async (item) => {
      begun.push(item);
      if (item === 2) throw new Error('the second one');
      await new Promise((resolve) => setTimeout(resolve, 10));
    });
    await expect(working).rejects.toThrow('the second one');
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(begun).toEqual([1, 2]);
  });
});
