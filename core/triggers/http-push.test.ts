import { once } from 'node:events';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import {
  type FakeCloudTasks,
  startFakeCloudTasks,
} from '../../tests/support/fake-cloud-tasks/fake-cloud-tasks.ts';
import { waitFor } from '../../tests/support/wait-for.ts';
import { createLog } from '../log.ts';
import { ServiceError } from '../problem.ts';
import type { Outcome } from '../tasks/outcome.ts';
import type { TaskPayload } from '../tasks/task.ts';
import { EarlyServer } from './early-server.ts';
import { HttpPush, type HttpPushOptions } from './http-push.ts';
import { createTaskAuth, type TaskAuth } from './task-auth.ts';

const CALLER = { email: 'invoker@p.iam.gserviceaccount.com', audience: 'https://gpu.example' };
const LOOPBACK = { host: '127.0.0.1', port: 0 };
const JOB = { owner: 'local', id: 'tr_0123456789abcdefghj' };
const TASK: TaskPayload = { type: 'transcribe', job: JOB, part: 2 };
const DONE: Outcome = { kind: 'done' };
const RETRY: Outcome = { kind: 'retry', error: new ServiceError('interrupted', 'not now') };

let issuer: FakeCloudTasks;
let auth: TaskAuth;
let push: HttpPush;
let url: string;
let log: string;
let handled: TaskPayload[];

beforeAll(async () => {
  issuer = await startFakeCloudTasks();
  auth = createTaskAuth(
    { mode: 'verify', audience: CALLER.audience, invokerEmail: CALLER.email, certsUrl: issuer.certsUrl },
    { host: LOOPBACK.host, isBehindIam: false },
  );
});
afterAll(() => issuer.close());
beforeEach(() => {
  log = '';
  handled = [];
});
afterEach(() => push.stop(1_000));

type Handle = (payload: TaskPayload, context: { signal: AbortSignal }) => Promise<Outcome>;

async function serve(
  handle: Handle = async () => DONE,
  options: Partial<HttpPushOptions> = {},
): Promise<void> {
  const remember: Handle = (payload, context) => {
    handled.push(payload);
    return handle(payload, context);
  };
  push = new HttpPush({
    log: createLog('test', { destination: { write: (line) => (log += line) } }),
    auth,
    handlers: { transcribe: remember, ingest: remember },
    maxConcurrent: 1,
    readiness: () => ({ isReady: true, detail: 'The transcriber is ready.' }),
    ...options,
  });
  ({ url } = await push.listen(LOOPBACK));
}

const token = (changes: Record<string, unknown> = {}) => issuer.issuer.issue(CALLER, changes);

function post(
  body: unknown = TASK,
  { bearer = token(), signal = null as AbortSignal | null } = {},
): Promise<Response> {
  return fetch(`${url}/tasks`, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Authorization: `Bearer ${bearer}`,
      'X-CloudTasks-TaskName': 'ab-1',
    },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    signal,
  });
}

test('before the service is loaded it says that it lives, other calls wait, and who leaves is forgotten', async () => {
  const early = await EarlyServer.listen(LOOPBACK);
  const { port } = early.server.address() as AddressInfo;
  const ask = (path: string, signal?: AbortSignal) =>
    fetch(`http://${LOOPBACK.host}:${port}/${path}`, signal === undefined ? {} : { signal });
  expect(await (await ask('health/live')).json()).toEqual({ status: 'ok' });
  const leaving = new AbortController();
  const left = ask('health/ready', leaving.signal);
  const [, response] = await once(early.server, 'request');
  const gone = once(response, 'close');
  leaving.abort();
  await expect(left).rejects.toThrow();
  await gone;
  const asked = ask('health/ready');
  await once(early.server, 'request');
  let answered = 0;
  push = new HttpPush({
    log: createLog('test', { level: 'silent' }),
    auth,
    handlers: {},
    maxConcurrent: 1,
    readiness: () => {
      answered++;
      return { isReady: true, detail: '' };
    },
  });
  push.answer(early);
  expect((await asked).status).toBe(200);
  expect(answered).toBe(1);
});

test('hands the task to its handler and logs how it ended', async () => {
  await serve();
  const response = await post();
  expect(response.status).toBe(204);
  expect(await response.text()).toBe('');
  expect(handled).toEqual([TASK]);
  expect(log).toContain('"outcome":"done"');
  expect(log).toContain('"task":"ab-1"');
  expect(log).toContain(JOB.id);
});

test.each<TaskPayload>([
  { type: 'ingest', job: JOB },
  { type: 'transcribe', job: JOB, part: 3 },
  { type: 'reconcile' },
  { type: 'reconcile', dueMs: 1_800_000_000_000 },
])('hands over $type whole', async (payload) => {
  const remember: Handle = async (received) => {
    handled.push(received);
    return DONE;
  };
  await serve(undefined, { handlers: { ingest: remember, transcribe: remember, reconcile: remember } });
  expect((await post(payload)).status).toBe(204);
  expect(handled).toEqual([payload]);
});

test.each<[string, Outcome, number]>([
  ['done', DONE, 204],
  ['failed', { kind: 'failed', error: new ServiceError('media-unreadable', 'no') }, 204],
  ['continue', { kind: 'continue' }, 204],
  ['retry', RETRY, 500],
])('answers the outcome %s', async (_, outcome, status) => {
  await serve(async () => outcome);
  expect((await post()).status).toBe(status);
});

test.each<[string, Handle]>([
  ['rejects', () => Promise.reject(new Error('a bug'))],
  [
    'throws',
    () => {
      throw new Error('a bug');
    },
  ],
])('answers 500 when a handler %s, logs why and shows nothing', async (_, handle) => {
  await serve(handle);
  const response = await post();
  expect(response.status).toBe(500);
  expect(await response.text()).toBe('');
  expect(log).toContain('a bug');
});

test.each<[string, () => string, number]>([
  ['no token', () => '', 401],
  [
    'a forged token',
    () =>
      token()
        .replace(/.$/, (last) => (last === 'A' ? 'Q' : 'A'))
        .replace('.', '.e30'),
    401,
  ],
  ['a token for another audience', () => token({ aud: 'https://other.example' }), 401],
  ['an expired token', () => token({ exp: 1_000_000_000, iat: 999_999_000 }), 401],
  ['a token of another account', () => token({ email: 'other@p.iam.gserviceaccount.com' }), 403],
])('refuses a call with %s before it reads the body', async (_, bearer, status) => {
  await serve();
  const secret = bearer();
  const response = await post('{"type":', { bearer: secret });
  expect(response.status).toBe(status);
  expect(response.headers.get('www-authenticate')).toBe(status === 401 ? 'Bearer' : null);
  expect(handled).toEqual([]);
  expect(log).toContain('a call was refused');
  const answer = await response.text();
  for (const part of secret.split('.').filter((text) => text.length > 10)) {
    expect(log).not.toContain(part);
    expect(answer).not.toContain(part);
  }
});

test.each<[string, unknown]>([
  ['nothing', ''],
  ['no JSON', '{"type": secret-content'],
  ['null', 'null'],
  ['a string', '"secret-content"'],
  ['a list', []],
  ['an empty object', {}],
  ['an unknown type', { type: 'secret-content', job: JOB }],
  ['a task without its job', { type: 'transcribe' }],
  ['an owner that leaves its folder', { type: 'transcribe', job: { ...JOB, owner: '../secret-content' } }],
  ['an id that is none', { type: 'transcribe', job: { ...JOB, id: 'secret-content' } }],
  ['a part of 0', { type: 'transcribe', job: JOB, part: 0 }],
  ['a type that this service does not do', { type: 'reconcile' }],
  ['two megabytes', `"${'secret-content'.repeat(150_000)}"`],
])('settles a body that is %s, since it can never succeed, and logs nothing of it', async (_, body) => {
  await serve();
  expect((await post(body)).status).toBe(204);
  expect(handled).toEqual([]);
  expect(log).toContain('settled a task that can never succeed');
  expect(log).not.toContain('secret-content');
});

test('takes a body whatever its content type says', async () => {
  await serve();
  const headers = { Authorization: `Bearer ${token()}` };
  const response = await fetch(`${url}/tasks`, { method: 'POST', headers, body: JSON.stringify(TASK) });
  expect(response.status).toBe(204);
  expect(handled).toEqual([TASK]);
});

test.each([
  ['GET', '/tasks', 405],
  ['PUT', '/tasks', 405],
  ['POST', '/', 404],
  ['POST', '/tasks/1', 404],
])('answers %s %s with %i', async (method, path, status) => {
  await serve();
  expect((await fetch(`${url}${path}`, { method })).status).toBe(status);
});

test('says whether it lives and whether it is ready', async () => {
  let isReady = false;
  await serve(undefined, { readiness: () => ({ isReady, detail: 'The transcriber is starting.' }) });
  expect((await fetch(`${url}/health/live`)).status).toBe(200);
  const starting = await fetch(`${url}/health/ready`);
  expect(starting.status).toBe(503);
  expect(await starting.json()).toEqual({ status: 'not-ready', detail: 'The transcriber is starting.' });
  isReady = true;
  expect((await fetch(`${url}/health/ready`)).status).toBe(200);
});

test('sends back what it has no room for, and takes it when it has', async () => {
  const finish = Promise.withResolvers<Outcome>();
  await serve(() => finish.promise);
  const first = post();
  await waitFor('the first', () => handled.length === 1);
  expect((await post()).status).toBe(500);
  expect(handled).toHaveLength(1);
  finish.resolve(DONE);
  expect((await first).status).toBe(204);
  expect((await post()).status).toBe(204);
});

test('runs as many at once as it may', async () => {
  const finish = Promise.withResolvers<Outcome>();
  await serve(() => finish.promise, { maxConcurrent: 3 });
  const calls = [post(), post(), post()];
  await waitFor('three', () => handled.length === 3);
  expect((await post()).status).toBe(500);
  finish.resolve(DONE);
  expect((await Promise.all(calls)).map(({ status }) => status)).toEqual([204, 204, 204]);
});

test('has room of its own for a type of task', async () => {
  const finish = Promise.withResolvers<Outcome>();
  await serve(() => finish.promise, { maxConcurrentOf: { transcribe: 1 } });
  const other = { ...TASK, type: 'ingest' };
  const calls = [post(), post(other)];
  await waitFor('both', () => handled.length === 2);
  expect([(await post()).status, (await post(other)).status]).toEqual([500, 500]);
  finish.resolve(DONE);
  expect((await Promise.all(calls)).map(({ status }) => status)).toEqual([204, 204]);
});

test('lets the handler go on when the caller has gone, and keeps its place taken', async () => {
  const finish = Promise.withResolvers<Outcome>();
  const signals: AbortSignal[] = [];
  await serve((_, { signal }) => {
    signals.push(signal);
    return finish.promise;
  });
  const caller = new AbortController();
  const call = post(TASK, { signal: caller.signal }).catch((error: Error) => error.name);
  await waitFor('the call', () => handled.length === 1);
  caller.abort();
  expect(await call).toBe('AbortError');
  await sleep(50);
  expect(signals[0]?.aborted).toBe(false);
  expect((await post()).status).toBe(500);
  finish.resolve(DONE);
  await waitFor('the end', () => log.includes('"outcome":"done"'));
  expect((await post()).status).toBe(204);
});

test('a sender that breaks off in the middle of the body does no harm', async () => {
  await serve();
  const headers = { Authorization: `Bearer ${token()}`, 'Content-Length': '1000' };
  const half = request(`${url}/tasks`, { method: 'POST', headers });
  half.on('error', () => {});
  half.write('{"type":');
  await sleep(50);
  half.destroy();
  expect((await post()).status).toBe(204);
  expect(log).not.toContain('can never succeed');
});

test('stops by asking the handlers, and answers that the task shall come again', async () => {
  await serve(async (_, { signal }) => {
    await once(signal, 'abort');
    await sleep(50);
    return RETRY;
  });
  const call = post();
  await waitFor('the call', () => handled.length === 1);
  const startMs = performance.now();
  await push.stop(8_000);
  expect((await call).status).toBe(500);
  expect(performance.now() - startMs).toBeLessThan(1_000);
  await expect(fetch(`${url}/health/live`)).rejects.toThrow();
});

test('lets a task that ends in time be settled while it stops', async () => {
  await serve(async (_, { signal }) => {
    await once(signal, 'abort');
    return DONE;
  });
  const call = post();
  await waitFor('the call', () => handled.length === 1);
  await push.stop(8_000);
  expect((await call).status).toBe(204);
});

test('takes no new task while it stops, not on an open connection either', async () => {
  const finish = Promise.withResolvers<Outcome>();
  await serve(() => finish.promise, { maxConcurrent: 2 });
  const first = post();
  await waitFor('the call', () => handled.length === 1);
  // Its head has arrived, so the connection is in use and stays open.
  const headers = { Authorization: `Bearer ${token()}` };
  const second = request(`${url}/tasks`, { method: 'POST', headers });
  const answered = once(second, 'response');
  second.write(JSON.stringify(TASK));
  await sleep(50);
  const stopped = push.stop(2_000);
  second.end();
  const [response] = await answered;
  expect(response.statusCode).toBe(500);
  expect(handled).toHaveLength(1);
  finish.resolve(DONE);
  expect((await first).status).toBe(204);
  await stopped;
});

test('does not wait longer than it may for a handler that does not listen', async () => {
  await serve(() => new Promise(() => {}));
  const call = post().catch(() => 'broken');
  await waitFor('the call', () => handled.length === 1);
  const startMs = performance.now();
  await push.stop(700);
  expect(performance.now() - startMs).toBeLessThan(1_500);
  expect(await call).toBe('broken');
});
