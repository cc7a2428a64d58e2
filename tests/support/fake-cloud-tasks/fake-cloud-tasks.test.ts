import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CloudTasksClient } from '@google-cloud/tasks';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { OAuth2Client } from 'google-auth-library';
import { createCloudTasksClient } from '../../../core/queue/cloud-tasks-queue.ts';
import { waitFor } from '../wait-for.ts';
import { type FakeCloudTasks, type FakeCloudTasksOptions, startFakeCloudTasks } from './fake-cloud-tasks.ts';
import type { QueueSettings } from './queue.ts';

const LOCATION = 'projects/p/locations/l';
const QUEUE = `${LOCATION}/queues/q`;
const TASK = `${QUEUE}/tasks/t`;

interface Call {
  atMs: number;
  headers: IncomingHttpHeaders;
  body: string;
}

let fake: FakeCloudTasks;
let client: CloudTasksClient;
let worker: Server;
let target: string;
let calls: Call[];
/** What the worker answers, in turn; the last for ever. `null`: nothing. */
let answers: (number | { status: number; headers: Record<string, string> } | null)[];
let broken: number;

beforeEach(async () => {
  calls = [];
  answers = [200];
  broken = 0;
  worker = createServer(async (req, res) => {
    const call = { atMs: Date.now(), headers: req.headers, body: '' };
    calls.push(call);
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    res.on('close', () => {
      if (!res.writableFinished) broken += 1;
    });
    call.body = Buffer.concat(await req.toArray()).toString();
    if (typeof answer === 'number') res.writeHead(answer, { Location: `${target}/elsewhere` }).end();
    else if (answer) res.writeHead(answer.status, answer.headers).end();
  });
  worker.listen(0, '127.0.0.1');
  await once(worker, 'listening');
  target = `http://127.0.0.1:${(worker.address() as AddressInfo).port}`;
});
afterEach(async () => {
  await client.close();
  await fake.close();
  worker.closeAllConnections();
  worker.close();
});

async function start(settings: QueueSettings = {}, options: FakeCloudTasksOptions = {}): Promise<void> {
  fake = await startFakeCloudTasks({ queues: { [QUEUE]: settings }, ...options });
  client = await createCloudTasksClient({ apiEndpoint: fake.url });
}

async function create(task: object = {}, httpRequest: object = {}) {
  const [created] = await client.createTask({
    parent: QUEUE,
    task: { name: TASK, httpRequest: { url: `${target}/work`, ...httpRequest }, ...task },
  });
  return created;
}

async function isGone(name = TASK): Promise<boolean> {
  return client.getTask({ name }).then(
    () => false,
    () => true,
  );
}

const gone = (name?: string) => waitFor('the end of the task', () => isGone(name));
const waits = () => calls.slice(1).map(({ atMs }, i) => atMs - (calls[i]?.atMs ?? 0));

describe('a dispatch', () => {
  test('carries the headers that were recorded from the real service', async () => {
    await start({ retryConfig: { minBackoff: '0.01s', maxBackoff: '0.01s' } }, { scale: { retry: 0.01 } });
    answers = [503, 404, 429, 500, 302, 200];
    // Far enough ahead that it is not over before the task is made, however busy the machine is.
    const etaMs = Date.now() + 3_000;
    await create(
      { scheduleTime: { seconds: Math.floor(etaMs / 1_000), nanos: (etaMs % 1_000) * 1e6 } },
      {
        headers: { 'Content-Type': 'application/json', 'X-CloudTasks-TaskName': 'forged', 'User-Agent': 'x' },
        body: Buffer.from('{"a":1}').toString('base64'),
      },
    );
    await gone();
    expect(calls.map(({ headers }) => headers['x-cloudtasks-taskretrycount'])).toEqual([...'012345']);
    expect(calls.map(({ headers }) => headers['x-cloudtasks-taskexecutioncount'])).toEqual([...'001223']);
    const previous = calls.map(({ headers }) => headers['x-cloudtasks-taskpreviousresponse']);
    expect(previous).toEqual([undefined, '503', '404', '429', '500', '302']);
    const reasons = calls.map(({ headers }) => headers['x-cloudtasks-taskretryreason']);
    expect(reasons).toEqual([undefined, '', '', '', '', '']);
    for (const { headers, body } of calls) {
      expect(headers).toMatchObject({
        'user-agent': 'Google-Cloud-Tasks',
        'x-cloudtasks-queuename': 'q',
        'x-cloudtasks-taskname': 't',
        'content-type': 'application/json',
      });
      expect(headers['x-cloudtasks-tasketa']).toMatch(/^\d{10}\.\d+$/);
      expect(body).toBe('{"a":1}');
    }
    expect(Number(calls[0]?.headers['x-cloudtasks-tasketa']) * 1_000).toBeCloseTo(etaMs, 0);
    expect(calls[0]?.atMs).toBeGreaterThanOrEqual(etaMs);
  });

  test('sets no content type of its own, and follows no redirect', async () => {
    await start({ retryConfig: { minBackoff: '0.01s' } });
    answers = [302, 200];
    await create({}, { httpMethod: 'GET' });
    await gone();
    expect(calls[0]?.headers['content-type']).toBeUndefined();
    expect(calls).toHaveLength(2);
  });

  test('breaks the connection at its deadline and says 504 the next time', async () => {
    await start({ retryConfig: { minBackoff: '0.01s' } }, { scale: { deadline: 0.01 } });
    answers = [null, 200];
    // The deadline runs from the dispatch, and a busy machine sees the call some time after it.
    const createdMs = Date.now();
    await create({ dispatchDeadline: { seconds: 15 } });
    await gone();
    expect(broken).toBe(1);
    expect((calls[1]?.atMs ?? 0) - createdMs).toBeGreaterThanOrEqual(149);
    expect(calls[1]?.headers).toMatchObject({
      'x-cloudtasks-taskpreviousresponse': '504',
      'x-cloudtasks-taskexecutioncount': '0',
      'x-cloudtasks-taskretrycount': '1',
    });
  });

  test('has a token that google-auth-library accepts', async () => {
    await start();
    const email = 'invoker@p.iam.gserviceaccount.com';
    await create({}, { oidcToken: { serviceAccountEmail: email, audience: 'https://service' } });
    await gone();
    const idToken = calls[0]?.headers.authorization?.replace('Bearer ', '') ?? '';
    const verifier = new OAuth2Client({ endpoints: { oauth2FederatedSignonPemCertsUrl: fake.certsUrl } });
    const ticket = await verifier.verifyIdToken({ idToken, audience: 'https://service' });
    expect(ticket.getPayload()).toMatchObject({
      email,
      email_verified: true,
      iss: 'https://accounts.google.com',
    });
    const [, payload = ''] = idToken.split('.');
    const { exp, iat } = JSON.parse(Buffer.from(payload, 'base64url').toString());
    expect(exp - iat).toBe(3_600);
  });

  test('takes the whole address for the audience when none is given', async () => {
    await start();
    await create({}, { oidcToken: { serviceAccountEmail: 'a@b' }, headers: { authorization: 'mine' } });
    await gone();
    const [, payload = ''] = calls[0]?.headers.authorization?.split('.') ?? [];
    expect(JSON.parse(Buffer.from(payload, 'base64url').toString())).toMatchObject({ aud: `${target}/work` });
  });
});

describe('a retry', () => {
  test.each([
    {
      name: 'doubles three times, then grows evenly',
      min: 10,
      max: 300,
      doublings: 3,
      expected: [10, 20, 40, 80, 160, 240, 300, 300],
    },
    {
      name: 'grows evenly when nothing may double',
      min: 20,
      max: 70,
      doublings: 0,
      expected: [20, 40, 60, 70],
    },
  ])('$name', async ({ min, max, doublings, expected }) => {
    await start(
      { retryConfig: { minBackoff: `${min}s`, maxBackoff: `${max}s`, maxDoublings: doublings } },
      { scale: { retry: 0.001 } },
    );
    answers = [...expected.map(() => 500), 200];
    await create();
    await gone();
    for (const [i, ms] of expected.entries()) {
      // The queue says itself when it meant to try again; how busy this machine is matters less that way.
      const meantMs = Number(calls[i + 1]?.headers['x-cloudtasks-tasketa']) * 1_000 - (calls[i]?.atMs ?? 0);
      expect(meantMs).toBeGreaterThanOrEqual(ms - 1);
      expect(meantMs).toBeLessThan(ms + 60);
      expect(waits()[i]).toBeGreaterThanOrEqual(ms - 1);
    }
  });

  test.each([
    {
      name: 'the attempts, when only they are limited',
      maxAttempts: 3,
      maxRetryDuration: '0s',
      least: 3,
      most: 3,
    },
    {
      name: 'the attempts and the time, when both are: time over first',
      maxAttempts: 6,
      maxRetryDuration: '0.02s',
      least: 6,
      most: 6,
    },
    {
      name: 'the attempts and the time, when both are: attempts over first',
      maxAttempts: 2,
      maxRetryDuration: '0.3s',
      least: 3,
      most: 40,
    },
    {
      name: 'the time, when only it is limited',
      maxAttempts: -1,
      maxRetryDuration: '0.05s',
      least: 2,
      most: 7,
    },
  ])('ends with $name', async ({ maxAttempts, maxRetryDuration, least, most }) => {
    await start({ retryConfig: { minBackoff: '0.01s', maxBackoff: '0.01s', maxAttempts, maxRetryDuration } });
    answers = [500];
    await create();
    await gone();
    expect(calls.length).toBeGreaterThanOrEqual(least);
    expect(calls.length).toBeLessThanOrEqual(most);
  });

  test.each([429, 503])('after %i comes no sooner than asked, and the whole queue waits', async (status) => {
    await start({ retryConfig: { minBackoff: '0.01s' } }, { scale: { retry: 0.1 } });
    answers = [{ status, headers: { 'Retry-After': '3' } }, 200];
    await create();
    await waitFor('the first call', () => calls.length === 1);
    await create({ name: `${QUEUE}/tasks/other` });
    await gone();
    await gone(`${QUEUE}/tasks/other`);
    expect(waits()[0]).toBeGreaterThanOrEqual(295);
  });

  test('after 500 keeps nobody else waiting', async () => {
    await start({ retryConfig: { minBackoff: '1s' } });
    answers = [500, 200];
    await create();
    await waitFor('the first call', () => calls.length === 1);
    await create({ name: `${QUEUE}/tasks/other` });
    await gone(`${QUEUE}/tasks/other`);
    expect(waits()[0]).toBeLessThan(500);
  });
});

describe('a queue', () => {
  const fill = (count: number) =>
    Promise.all(Array.from({ length: count }, (_, i) => create({ name: `${QUEUE}/tasks/t${i}` })));

  test('sends no more at once than it may', async () => {
    await start({ rateLimits: { maxConcurrentDispatches: 2 } }, { scale: { deadline: 0.01 } });
    answers = [null];
    await fill(5);
    await waitFor('two calls', () => calls.length === 2);
    await sleep(50);
    expect(calls).toHaveLength(2);
  });

  test('sends a burst, then no faster than its rate', async () => {
    await start({ rateLimits: { maxDispatchesPerSecond: 20 } });
    await client.pauseQueue({ name: QUEUE });
    await fill(15);
    // From before the queue may send anything: a first call that arrives late must not shorten what follows it.
    const resumedMs = Date.now();
    await client.resumeQueue({ name: QUEUE });
    await waitFor('all calls', () => calls.length === 15);
    const burstMs = (calls[9]?.atMs ?? 0) - (calls[0]?.atMs ?? 0);
    const restMs = (calls[14]?.atMs ?? 0) - (calls[9]?.atMs ?? 0);
    // Ten at once, then one in 50 ms.
    expect((calls[14]?.atMs ?? 0) - resumedMs).toBeGreaterThanOrEqual(240);
    expect(burstMs).toBeLessThan(restMs);
  });

  test('keeps its tasks while it is paused, takes new ones, and goes on where it was', async () => {
    await start();
    expect((await client.pauseQueue({ name: QUEUE }))[0].state).toBe('PAUSED');
    await fill(2);
    await sleep(50);
    expect(calls).toHaveLength(0);
    await client.resumeQueue({ name: QUEUE });
    await waitFor('both calls', () => calls.length === 2);
  });

  test('is emptied by a purge', async () => {
    await start();
    await client.pauseQueue({ name: QUEUE });
    await fill(2);
    const [purged] = await client.purgeQueue({ name: QUEUE });
    expect(purged.purgeTime).toBeTruthy();
    await client.resumeQueue({ name: QUEUE });
    expect((await client.listTasks({ parent: QUEUE }))[0]).toEqual([]);
    expect(calls).toHaveLength(0);
  });

  test('is made with the defaults of the service, changed by mask, listed and deleted', async () => {
    await start();
    const name = `${LOCATION}/queues/new`;
    await client.createQueue({ parent: LOCATION, queue: { name, retryConfig: { maxAttempts: 7 } } });
    const [made] = await client.getQueue({ name });
    expect(made).toMatchObject({
      name,
      state: 'RUNNING',
      rateLimits: { maxDispatchesPerSecond: 500, maxBurstSize: 100, maxConcurrentDispatches: 1_000 },
      retryConfig: {
        maxAttempts: 7,
        maxDoublings: 16,
        minBackoff: { nanos: 100_000_000 },
        maxBackoff: { seconds: '3600' },
      },
    });
    const [changed] = await client.updateQueue({
      queue: { name, rateLimits: { maxConcurrentDispatches: 3 }, retryConfig: { maxAttempts: 9 } },
      updateMask: { paths: ['rate_limits.max_concurrent_dispatches'] },
    });
    expect(changed).toMatchObject({
      rateLimits: { maxConcurrentDispatches: 3, maxDispatchesPerSecond: 500 },
      retryConfig: { maxAttempts: 7 },
    });
    const [queues] = await client.listQueues({ parent: LOCATION });
    expect(queues.map((queue) => queue.name)).toEqual([name, QUEUE]);
    await client.deleteQueue({ name });
    await expect(client.getQueue({ name })).rejects.toMatchObject({ code: 5 });
    await expect(client.createQueue({ parent: LOCATION, queue: { name } })).rejects.toMatchObject({
      code: 9,
    });
  });
});

describe('a task', () => {
  beforeEach(async () => {
    await start();
    await client.pauseQueue({ name: QUEUE });
  });

  test('is shown as it was made, without its body unless asked', async () => {
    const created = await create(
      { dispatchDeadline: { seconds: 1_800 } },
      {
        httpMethod: 'PUT',
        headers: { 'Content-Type': 'text/plain' },
        body: Buffer.from('x').toString('base64'),
      },
    );
    expect(created).toMatchObject({
      name: TASK,
      httpRequest: { url: `${target}/work`, httpMethod: 'PUT', headers: { 'Content-Type': 'text/plain' } },
      dispatchDeadline: { seconds: '1800' },
      dispatchCount: 0,
      view: 'BASIC',
    });
    expect(Buffer.from(created?.httpRequest?.body ?? '').toString()).toBe('');
    const [full] = await client.getTask({ name: TASK, responseView: 'FULL' });
    expect(Buffer.from(full.httpRequest?.body ?? '').toString()).toBe('x');
  });

  test('has ten minutes and POST unless it says otherwise', async () => {
    expect(await create()).toMatchObject({
      dispatchDeadline: { seconds: '600' },
      httpRequest: { httpMethod: 'POST' },
    });
  });

  test('gets a name when it has none, and pages of a list hold them all', async () => {
    for (let i = 0; i < 3; i++) await create({ name: '' });
    const [tasks] = await client.listTasks({ parent: QUEUE });
    expect(new Set(tasks.map(({ name }) => name)).size).toBe(3);
  });

  const FAR = { seconds: Math.floor(Date.now() / 1_000) + 31 * 24 * 3_600 };
  test.each<[string, object, object, number]>([
    ['an id with a space', { name: `${QUEUE}/tasks/not a valid id` }, {}, 3],
    ['an id of 501 characters', { name: `${QUEUE}/tasks/${'x'.repeat(501)}` }, {}, 3],
    ['a name in another queue', { name: `${QUEUE}-other/tasks/t` }, {}, 3],
    ['no address', {}, { url: '' }, 3],
    ['an address that is not HTTP', {}, { url: 'ftp://x' }, 3],
    ['an address of 2084 characters', {}, { url: `http://${'x'.repeat(2_077)}` }, 3],
    ['a body with GET', {}, { httpMethod: 'GET', body: 'eA==' }, 3],
    ['a deadline below 15 s', { dispatchDeadline: { seconds: 14 } }, {}, 3],
    ['a deadline above 30 min', { dispatchDeadline: { seconds: 1_801 } }, {}, 3],
    ['a time more than 30 days ahead', { scheduleTime: FAR }, {}, 3],
    ['a body above 1 MiB', {}, { body: Buffer.alloc(1_000_000).toString('base64') }, 3],
    ['headers above 80 KB', {}, { headers: { a: 'x'.repeat(81_920) } }, 3],
  ])('is refused with %s', async (_, task, httpRequest, code) => {
    await expect(create(task, httpRequest)).rejects.toMatchObject({ code });
    expect((await client.listTasks({ parent: QUEUE }))[0]).toEqual([]);
  });

  test('needs a queue', async () => {
    const parent = `${QUEUE}-none`;
    const task = { httpRequest: { url: target } };
    await expect(client.createTask({ parent, task })).rejects.toMatchObject({
      code: 5,
      message: expect.stringContaining('Queue does not exist. If you just created the queue, wait'),
    });
  });

  test('keeps its name after its end until the tombstone is gone', async () => {
    await create();
    await expect(create()).rejects.toMatchObject({
      code: 6,
      message: expect.stringContaining('already exists'),
    });
    await client.deleteTask({ name: TASK });
    await expect(create()).rejects.toMatchObject({ code: 6 });
    await expect(client.deleteTask({ name: TASK })).rejects.toMatchObject({ code: 5 });
    await expect(client.getTask({ name: TASK })).rejects.toMatchObject({
      code: 5,
      message: expect.stringContaining('existed recently'),
    });
  });
});

test('a name is free again when its tombstone is old enough', async () => {
  await start({}, { tombstoneMs: 30 });
  await create();
  await gone();
  await waitFor('the name', () =>
    create().then(
      () => true,
      () => false,
    ),
  );
  await waitFor('the second call', () => calls.length === 2);
});

test('a deleted task that runs is not tried again', async () => {
  await start({ retryConfig: { minBackoff: '0.01s' } }, { scale: { deadline: 0.005 } });
  answers = [null];
  await create({ dispatchDeadline: { seconds: 15 } });
  await waitFor('the call', () => calls.length === 1);
  await client.deleteTask({ name: TASK });
  await waitFor('the end of the attempt', () => broken === 1);
  await sleep(50);
  expect(calls).toHaveLength(1);
});

test('queues are made when they are used, if that is asked for', async () => {
  await start({}, { queues: {}, autoCreate: { retryConfig: { maxAttempts: 4 } } });
  await create();
  await gone();
  expect((await client.getQueue({ name: QUEUE }))[0].retryConfig?.maxAttempts).toBe(4);
});

describe('a fault on request', () => {
  test('sends a dispatch twice', async () => {
    await start({}, { faults: { next: { 'duplicate-dispatch': 1 } } });
    await create();
    await waitFor('two calls', () => calls.length === 2);
    expect(calls.map(({ headers }) => headers['x-cloudtasks-taskretrycount'])).toEqual(['0', '0']);
    expect(fake.faults.counts['duplicate-dispatch']).toBe(1);
  });

  test('delays a dispatch, breaks one off, loses the answer of one', async () => {
    await start(
      { retryConfig: { minBackoff: '0.01s' } },
      { faults: { next: { 'delay-dispatch': 1, 'time-out-dispatch': 1, 'lose-answer': 1 }, upToMs: 50 } },
    );
    answers = [null, 200];
    await create();
    await gone();
    expect(calls.map(({ headers }) => headers['x-cloudtasks-taskpreviousresponse'])).toEqual([
      undefined,
      '504',
      '504',
    ]);
  });

  test('sends a later task first', async () => {
    await start({ rateLimits: { maxConcurrentDispatches: 1 } });
    await client.pauseQueue({ name: QUEUE });
    for (const id of ['a', 'b', 'c']) await create({ name: `${QUEUE}/tasks/${id}` });
    fake.faults.set({ next: { 'reorder-dispatch': 1 } });
    await client.resumeQueue({ name: QUEUE });
    await waitFor('the calls', () => calls.length === 3);
    expect(calls[0]?.headers['x-cloudtasks-taskname']).not.toBe('a');
  });

  test('loses the reply of a create that took place, stalls one, refuses one', async () => {
    await start({}, { faults: { next: { 'refuse-create': 1 } } });
    await client.pauseQueue({ name: QUEUE });
    await expect(create()).rejects.toMatchObject({ code: 14 });
    expect(await isGone()).toBe(true);
    fake.faults.set({ next: { 'lose-create-reply': 1 } });
    await expect(create()).rejects.toMatchObject({ code: 14 });
    expect(await isGone()).toBe(false);
    fake.faults.set({ next: { 'stall-create': 1 } });
    const name = `${QUEUE}/tasks/u`;
    const stalled = client.createTask(
      { parent: QUEUE, task: { name, httpRequest: { url: target } } },
      { timeout: 100 },
    );
    await expect(stalled).rejects.toMatchObject({ code: 4 });
    expect(await isGone(name)).toBe(false);
  });

  test('is asked for over HTTP too', async () => {
    await start();
    await fetch(`${fake.url}/_fake/faults`, { method: 'PUT', body: '{"next":{"duplicate-dispatch":1}}' });
    await create();
    await waitFor('two calls', () => calls.length === 2);
    const counts = await (await fetch(`${fake.url}/_fake/faults`)).json();
    expect(counts).toMatchObject({ 'duplicate-dispatch': 1, 'lose-answer': 0 });
  });
});

describe('a service with several instances', () => {
  test('gives each as many requests as it takes, and no signature to a private one', async () => {
    await start();
    fake.setService('http://gpu.test', { instances: [target], concurrency: 1, isPrivate: true });
    answers = [null];
    for (const id of ['a', 'b']) {
      await create(
        { name: `${QUEUE}/tasks/${id}` },
        { url: 'http://gpu.test/tasks', oidcToken: { serviceAccountEmail: 'a@b' } },
      );
    }
    await waitFor('the first call', () => calls.length === 1);
    await sleep(50);
    expect(calls).toHaveLength(1);
    expect(calls[0]?.headers.authorization).toMatch(/^Bearer [\w-]+\.[\w-]+\.SIGNATURE_REMOVED_BY_GOOGLE$/);
    fake.setService('http://gpu.test', {
      instances: [target, target.replace('127.0.0.1', 'localhost')],
      concurrency: 1,
    });
    await waitFor('the second call', () => calls.length === 2);
  });
});

describe('as a process of its own', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fake-cloud-tasks-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  async function spawnFake(options: FakeCloudTasksOptions) {
    const main = join(import.meta.dirname, 'main.ts');
    const child = spawn(process.execPath, [main, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = await once(child.stdout, 'data');
    const { url } = JSON.parse(String(line)) as { url: string };
    const kill = async () => {
      child.kill('SIGKILL');
      await once(child, 'exit');
    };
    return { url, kill };
  }

  test('a kill loses no task, no tombstone and no key', async () => {
    await start(); // For afterEach.
    const options = { database: join(folder, 'tasks.sqlite'), queues: { [QUEUE]: {} } };
    const first = await spawnFake(options);
    await client.close();
    client = await createCloudTasksClient({ apiEndpoint: first.url });
    const certs = await (await fetch(`${first.url}/oauth2/v1/certs`)).json();
    await create({ name: `${QUEUE}/tasks/done` });
    await gone(`${QUEUE}/tasks/done`);
    answers = [null, 200];
    await create();
    await waitFor('the second call', () => calls.length === 2);
    await first.kill();

    const second = await spawnFake(options);
    try {
      await client.close();
      client = await createCloudTasksClient({ apiEndpoint: second.url });
      await waitFor('the call again', () => calls.length === 3);
      await gone();
      await expect(create({ name: `${QUEUE}/tasks/done` })).rejects.toMatchObject({ code: 6 });
      expect(await (await fetch(`${second.url}/oauth2/v1/certs`)).json()).toEqual(certs);
    } finally {
      await second.kill();
    }
  });
});
