import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { CloudTasksClient } from '@google-cloud/tasks';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  type FakeCloudTasks,
  startFakeCloudTasks,
} from '../../tests/support/fake-cloud-tasks/fake-cloud-tasks.ts';
import { createLog } from '../log.ts';
import { ServiceError } from '../problem.ts';
import { jobTask, type Task, type TaskPayload } from '../tasks/task.ts';
import { HttpPush, type TaskHandler } from '../triggers/http-push.ts';
import { createTaskAuth } from '../triggers/task-auth.ts';
import {
  CloudTasksError,
  CloudTasksQueue,
  type CloudTasksSettings,
  createCloudTasksClient,
} from './cloud-tasks-queue.ts';
import { describeQueue } from './queue.contract.ts';

const PREFIX = 'projects/p/locations/l/queues/zs';
const EMAIL = 'invoker@p.iam.gserviceaccount.com';
const FAST = { retryConfig: { minBackoff: '0.01s', maxBackoff: '0.02s' } };
const DAY_MS = 24 * 3_600_000;

describeQueue('CloudTasksQueue', async () => {
  const fake = await startFakeCloudTasks({
    queues: {
      [`${PREFIX}-cpu`]: { ...FAST, rateLimits: { maxConcurrentDispatches: 1 } },
      [`${PREFIX}-gpu`]: { ...FAST, rateLimits: { maxConcurrentDispatches: 1 } },
    },
  });
  const client = await createCloudTasksClient({ apiEndpoint: fake.url });
  const workers = new Map<string, (payload: TaskPayload) => Promise<boolean>>();
  const services: Record<string, string> = {};
  const servers: HttpPush[] = [];
  for (const name of ['cpu', 'gpu']) {
    await client.pauseQueue({ name: `${PREFIX}-${name}` });
    const audience = `https://${name}.example`;
    const handle: TaskHandler = async (payload) =>
      (await workers.get(name)?.(payload))
        ? { kind: 'done' }
        : { kind: 'retry', error: new ServiceError('internal', 'not yet') };
    const push = new HttpPush({
      log: createLog('test', { level: 'silent' }),
      auth: createTaskAuth(
        { mode: 'verify', audience, invokerEmail: EMAIL, certsUrl: fake.certsUrl },
        { host: '127.0.0.1', isBehindIam: false },
      ),
      handlers: { ingest: handle, transcribe: handle, reconcile: handle },
      maxConcurrent: 1,
      readiness: () => ({ isReady: true, detail: '' }),
    });
    const { url } = await push.listen({ host: '127.0.0.1', port: 0 });
    fake.setService(audience, { instances: [url] });
    services[name] = audience;
    servers.push(push);
  }
  return {
    queue: new CloudTasksQueue(client, { queuePrefix: PREFIX, services, invokerEmail: EMAIL }),
    queueNames: ['cpu', 'gpu'],
    work: async (queueName, worker) => {
      workers.set(queueName, worker);
      await client.resumeQueue({ name: `${PREFIX}-${queueName}` });
    },
    dispose: async () => {
      await Promise.all(servers.map((server) => server.stop(1_000)));
      await client.close();
      await fake.close();
    },
  };
});

describe('CloudTasksQueue', () => {
  let fake: FakeCloudTasks;
  let client: CloudTasksClient;
  const task: Task = jobTask('gpu', { owner: 'local', id: 'tr_0123456789abcdefghj' }, 'transcribe', 1);
  const name = `${PREFIX}-gpu/tasks/${task.name}`;

  beforeEach(async () => {
    fake = await startFakeCloudTasks({ queues: { [`${PREFIX}-gpu`]: {} } });
    client = await createCloudTasksClient({ apiEndpoint: fake.url });
    await client.pauseQueue({ name: `${PREFIX}-gpu` });
  });
  afterEach(async () => {
    await client.close();
    await fake.close();
  });

  const makeQueue = (settings: Partial<CloudTasksSettings> = {}) =>
    new CloudTasksQueue(client, {
      queuePrefix: PREFIX,
      services: { gpu: 'https://gpu.example/', nowhere: 'https://x.example' },
      invokerEmail: EMAIL,
      ...settings,
    });

  test('makes a POST of the payload to the service of the queue, with a token for it and half an hour', async () => {
    await makeQueue().enqueue(task);
    const [made] = await client.getTask({ name, responseView: 'FULL' });
    expect(made).toMatchObject({
      httpRequest: {
        url: 'https://gpu.example/tasks',
        httpMethod: 'POST',
        headers: { 'Content-Type': 'application/json' },
        oidcToken: { serviceAccountEmail: EMAIL, audience: 'https://gpu.example' },
      },
      dispatchDeadline: { seconds: '1800' },
    });
    expect(JSON.parse(Buffer.from(made.httpRequest?.body ?? '').toString())).toEqual(task.payload);
  });

  test.each([
    ['an hour', 3_600_000, 3_600_000],
    ['a year, which is more than Cloud Tasks takes', 365 * DAY_MS, 30 * DAY_MS],
  ])('delays by %s', async (_, delayMs, expectedMs) => {
    const beforeMs = Date.now();
    expect(await makeQueue().enqueue(task, { delayMs })).toBe('created');
    const [{ scheduleTime }] = await client.getTask({ name });
    const delayedMs = Number(scheduleTime?.seconds) * 1_000 + (scheduleTime?.nanos ?? 0) / 1e6 - beforeMs;
    expect(delayedMs).toBeLessThan(expectedMs + 2_000);
    expect(delayedMs).toBeGreaterThan(expectedMs - 600_000);
  });

  test.each([
    ['refused', { 'refuse-create': 2 }],
    ['done without a reply', { 'lose-create-reply': 1 }],
    ['done after the time was over', { 'stall-create': 1 }],
    ['refused, then done without a reply', { 'refuse-create': 1, 'lose-create-reply': 1 }],
  ])('tries again what was %s, and there is one task', async (_, next) => {
    fake.faults.set({ next });
    expect(await makeQueue({ callTimeoutMs: 300 }).enqueue(task)).toBe('created');
    expect((await client.listTasks({ parent: `${PREFIX}-gpu` }))[0]).toHaveLength(1);
    expect(await makeQueue().enqueue(task)).toBe('exists');
  });

  test('says after a lost try that a name is taken when it belongs to a task that has ended', async () => {
    await makeQueue().enqueue(task);
    await makeQueue().delete(task);
    fake.faults.set({ next: { 'refuse-create': 1 } });
    expect(await makeQueue().enqueue(task)).toBe('exists');
  });

  test('asks and deletes again after a refusal', async () => {
    await makeQueue().enqueue(task);
    fake.faults.set({ next: { 'refuse-call': 2 } });
    expect(await makeQueue().has(task)).toBe(true);
    fake.faults.set({ next: { 'refuse-call': 2 } });
    await makeQueue().delete(task);
    expect(await makeQueue().has(task)).toBe(false);
  });

  test('gives up after a while, and says what was asked', async () => {
    fake.faults.set({ rates: { 'refuse-create': 1 } });
    const enqueued = makeQueue({ giveUpMs: 300 }).enqueue(task);
    await expect(enqueued).rejects.toThrow(
      /^CreateTask on projects\/p.*zs-gpu failed with code 14 after \d tries/,
    );
    await expect(enqueued).rejects.toBeInstanceOf(CloudTasksError);
  });

  test('does not try again what is hopeless', async () => {
    const startMs = performance.now();
    const enqueued = makeQueue().enqueue({ ...task, queue: 'nowhere' });
    await expect(enqueued).rejects.toThrow(/failed with NOT_FOUND after 1 try: .*Queue does not exist/);
    expect(performance.now() - startMs).toBeLessThan(1_000);
  });

  test('has no service for a queue that nobody configured', async () => {
    await expect(makeQueue().enqueue({ ...task, queue: 'other' })).rejects.toThrow(TypeError);
  });

  test('tells nothing of a token that a message of the library quotes', async () => {
    const token = fake.issuer.issue({ email: EMAIL, audience: 'x' });
    const message = `Invalid: ${token}, ya29.a0Af_secret, Bearer abc-secret {"access_token":"secret","assertion":'secret'}`;
    const failing = { createTask: () => Promise.reject(Object.assign(new Error(message), { code: 16 })) };
    const queue = new CloudTasksQueue(failing as unknown as CloudTasksClient, {
      queuePrefix: PREFIX,
      services: { gpu: 'https://gpu.example' },
      invokerEmail: EMAIL,
    });
    const error = await queue.enqueue(task).catch((reason: Error) => reason);
    expect(error).toBeInstanceOf(CloudTasksError);
    const shown = `${error} ${JSON.stringify(error)} ${(error as Error).stack}`;
    expect(shown).toContain('UNAUTHENTICATED');
    for (const secret of ['secret', ...token.split('.')]) expect(shown).not.toContain(secret);
    expect((error as Error).cause).toBeUndefined();
  });
});

test('without credentials there is no client, a reason, and a process that lives on', async () => {
  const script = `
    const { createCloudTasksClient } = await import(${JSON.stringify(import.meta.resolve('./cloud-tasks-queue.ts'))});
    await createCloudTasksClient().catch((error) => console.log(error.message));
    await new Promise((resolve) => setTimeout(resolve, 200));
    console.log('alive');`;
  const env = { PATH: process.env.PATH, HOME: '/nonexistent', METADATA_SERVER_DETECTION: 'none' };
  const args = ['--input-type=module', '-e', script];
  const { stdout } = await promisify(execFile)(process.execPath, args, { env });
  expect(stdout).toMatch(/^No Google credentials were found.*\nalive\n$/);
});
