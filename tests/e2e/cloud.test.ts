import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { Backend } from '../../core/backends.ts';
import { readInstances } from '../../core/costs/instances.ts';
import { estimateOperations } from '../../core/costs/operations.ts';
import { cloudRunUsdPerSecond, PRICES } from '../../core/costs/prices.ts';
import { readInstallation } from '../../core/installation.ts';
import type { JobRecord } from '../../core/job.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { attributeCostsTask } from '../../core/tasks/task.ts';
import { type Cloud, GPU_ORIGIN, INVOKER, OWNER, startCloud } from '../support/cloud.ts';
import { fakeSidecarCommand } from '../support/fake-sidecar.ts';
import { submit, waitUntilSettled } from '../support/submit.ts';
import { waitFor } from '../support/wait-for.ts';

const installation = readInstallation();
const sample = sampleRecording(installation.python);
const RUN_JOB: Backend = {
  name: 'gpu-job',
  kind: 'cloud-run-job',
  tier: 'premium',
  job: 'projects/test/locations/here/jobs/gpu-job',
};
let cloud: Cloud | undefined;
afterEach(async () => {
  await cloud?.stop();
  cloud = undefined;
});

/** Everything the bucket holds, by key. */
async function keys(): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of (cloud as Cloud).blobs.list('')) found.push(key);
  return found;
}

const fakeEngine = (options: Parameters<typeof fakeSidecarCommand>[1] = {}) => ({
  'gpu-service': { SIDECAR_COMMAND: JSON.stringify(fakeSidecarCommand('good', options)) },
});

/** What the job cost is what the platform would count: its seconds in the logs, its operations in the fakes, its instance. */
async function expectCost(id: string): Promise<void> {
  const { storage, tasks, queue, records, instances, record: read, forget } = cloud as Cloud;
  const { usage, cost } = await read({ owner: OWNER, id });
  const secondsIn = (name: 'cpu-service' | 'gpu-service') =>
    Number(instances(name)[0]?.log.find(({ message }) => message === 'the task ended')?.seconds);
  const used = (backend: string) => usage.find((one) => one.backend === backend);
  for (const [backend, seconds] of [
    ['cpu-service', secondsIn('cpu-service')],
    ['cloud-run-service', secondsIn('gpu-service')],
  ] as const) {
    // The call begins before the claim and ends after the record was settled.
    expect(used(backend)?.busy_seconds).toBeGreaterThan(0);
    expect(used(backend)?.busy_seconds).toBeLessThanOrEqual(seconds);
  }
  expect(cost).toMatchObject({
    attributed_usd: null,
    basis: expect.stringMatching(/^cloud-run-l4 .* 2026-10-01$/),
  });

  // Without what this test does: it lists the whole bucket, and looks at the job much more often than a client should.
  const looks = instances('api')[0]?.log.filter(
    ({ message, method }) => message === 'request' && method === 'GET',
  );
  const count = (...operations: string[]) =>
    storage.requests.filter(
      ({ operation, status, query }) =>
        status !== null && operations.includes(operation) && !(operation === 'list' && !query.prefix),
    ).length;
  const counted = {
    storageClassA: count('insert', 'start-session', 'list', 'patch', 'copy'),
    storageClassB: count('get', 'download') - (looks?.length ?? 0),
    // Made, and brought.
    cloudTasks: 2 * tasks.attempts.length,
  };
  const estimated = estimateOperations({ usage });
  for (const name of ['storageClassA', 'storageClassB', 'cloudTasks'] as const) {
    const ratio = estimated[name] / counted[name];
    expect([name, ratio > 1 / 3 && ratio < 3, { counted, estimated }]).toEqual([
      name,
      true,
      expect.anything(),
    ]);
  }

  // The instance ends, and its bill comes.
  const [gpu] = instances('gpu-service');
  forget('gpu-service', gpu as never);
  await gpu?.stop();
  const [instance] = await readInstances(records, 'cloud-run-service');
  expect(instance).toMatchObject({ ended_at: expect.any(String), jobs: [{ owner: OWNER, id }] });
  await queue.enqueue(attributeCostsTask({ backend: 'cloud-run-service', id: instance?.id ?? '' }, 0));
  const attributed = await waitFor(
    'the share of the bill',
    async () => (await read({ owner: OWNER, id })).cost?.attributed_usd ?? undefined,
  );
  const livedSeconds =
    (Date.parse(instance?.ended_at ?? '') - Date.parse(instance?.started_at ?? '')) / 1_000;
  const others = (cost?.parts ?? []).filter(({ item }) => item !== 'instance');
  const bill = Math.max(60, livedSeconds) * cloudRunUsdPerSecond(PRICES, { vcpu: 8, memoryGib: 32 });
  expect(attributed).toBeCloseTo(bill + others.reduce((sum, { usd }) => sum + usd, 0), 4);
  expect((await cloud?.client.get(id))?.cost?.attributed_usd).toBe(attributed);
}

describe('api, cpu-service and gpu-service as processes of their own', () => {
  test('turn an upload into a transcript in the bucket, with the real model', async () => {
    cloud = await startCloud();
    const { id } = await submit(cloud.client, sample, { language: 'en' });
    const settled = await waitUntilSettled(cloud.client, id);
    expect(settled).toMatchObject({ status: 'completed', backend: 'cloud-run-service', problem: null });
    expect(await cloud.client.transcript(id, 'txt')).toContain('This is Diane in New Jersey.');
    const record = await cloud.record({ owner: OWNER, id });
    expect(await keys()).toContain(record.objects.transcript);
    await waitFor('the marker to go', async () => !(await keys()).some((key) => key.startsWith('active/')), {
      intervalMs: 100,
    });
    const { attempts } = cloud.tasks;
    // The job is settled a moment before the call that did it is answered.
    await waitFor('both answers', () => attempts.length === 2);
    // Every task came with a token that the service has verified, and was settled by its first try.
    expect(attempts.map(({ status }) => status)).toEqual([204, 204]);
    expect((await keys()).filter((key) => key.startsWith('work/'))).toEqual([]);
    await expectCost(record.id);
  }, 300_000);

  test.each([
    ['is pushed to a process whose models are loading', undefined],
    ['a process was started for', [RUN_JOB]],
  ])(
    'a task that %s has its audio by the time they are there',
    async (_how, backends) => {
      const tmp = await mkdtemp(join(tmpdir(), 'zeroscribe-cold-'));
      const gate = join(tmp, 'gate');
      const env = fakeEngine({ readyWhen: gate });
      cloud = await startCloud({
        ...(backends !== undefined && { backends, gpuInstances: 0 }),
        env: { 'gpu-service': { ...env['gpu-service'], TMPDIR: tmp } },
      });
      const { id } = await submit(cloud.client, sample);
      await waitFor('all of the audio', async () => {
        const [pcm] = (await readdir(tmp, { recursive: true })).filter((name) => name.endsWith('.pcm'));
        return pcm !== undefined && (await stat(join(tmp, pcm))).size === 30 * 16_000 * 2;
      });
      for (const { url } of cloud.instances('gpu-service')) {
        expect((await fetch(`${url}/health/live`)).status).toBe(200);
        expect((await fetch(`${url}/health/ready`)).status).toBe(503);
      }
      await writeFile(gate, '');
      const settled = await waitUntilSettled(cloud.client, id);
      const { cold_start: parts } = settled.metrics as JobRecord['metrics'];
      expect(parts).toMatchObject({ instance: 'cold' });
      expect(parts?.overlap_seconds).toBeGreaterThan(0);
      expect(parts?.ready_seconds).toBeGreaterThan(parts?.spawn_seconds ?? Number.NaN);
      if (backends === undefined) {
        // It took tasks before it was ready, and had started the sidecar before that.
        expect(parts?.listening_seconds).toBeGreaterThan(parts?.spawn_seconds ?? Number.NaN);
        expect(parts?.listening_seconds).toBeLessThan(parts?.ready_seconds ?? Number.NaN);
      } else {
        expect(parts?.listening_seconds).toBeNull();
        // It was started for this job.
        expect(parts?.queue_to_process_seconds).toBeGreaterThan(0);
      }
      await rm(tmp, { recursive: true });
    },
    300_000,
  );

  test('two gpu instances work sixteen jobs off, each once', async () => {
    cloud = await startCloud({ gpuInstances: 2, env: fakeEngine({ batchDelayMs: 20 }) });
    const { client } = cloud;
    const jobs = await Promise.all(Array.from({ length: 16 }, () => submit(client, sample)));
    for (const { id } of jobs) {
      expect(await waitUntilSettled(client, id)).toMatchObject({ status: 'completed', attempt: 1 });
    }
    expect((await keys()).filter((key) => key.startsWith('transcripts/'))).toHaveLength(16);
    const ended = (): number[] =>
      (cloud as Cloud)
        .instances('gpu-service')
        .map(
          ({ log }) =>
            log.filter(({ message, type }) => message === 'the task ended' && type === 'transcribe').length,
        );
    await waitFor('the last answers', () => ended().reduce((sum, count) => sum + count, 0) >= 16);
    expect(Math.min(...ended())).toBeGreaterThan(0);
  }, 300_000);

  test('SIGTERM gives the job back within ten seconds, and another instance finishes it', async () => {
    cloud = await startCloud({ env: fakeEngine({ batchDelayMs: 400 }) });
    const { id } = await submit(cloud.client, sample, { chunk_size: '1' });
    await waitFor('transcription', async () => (await cloud?.client.get(id))?.stage === 'transcribe', {
      timeoutMs: 180_000,
      intervalMs: 100,
    });
    const [first] = cloud.instances('gpu-service');
    if (first === undefined) throw new Error('there is no gpu instance');
    await cloud.start('gpu-service');
    cloud.forget('gpu-service', first);
    const startedMs = performance.now();
    expect(await first.stop()).toBe(0);
    expect(performance.now() - startedMs).toBeLessThan(10_000);
    expect(await waitUntilSettled(cloud.client, id)).toMatchObject({
      status: 'completed',
      attempt: 1,
    });
  }, 300_000);

  test('kill -9 of the gpu instance with the real model: another one goes on from the last checkpoint', async () => {
    cloud = await startCloud({
      env: { 'gpu-service': { TASK_LEASE_SECONDS: '6' }, 'cpu-service': { TASK_LEASE_SECONDS: '6' } },
    });
    const { client } = cloud;
    // Short chunks, so that there is more than one batch of eight.
    const options = { language: 'en', chunk_size: '2' };
    const { id } = await submit(client, sample, options);
    const job = { owner: OWNER, id };
    await waitFor(
      'a stored batch',
      async () => ((await cloud?.record(job))?.checkpoints.transcribe.length ?? 0) > 0,
      {
        timeoutMs: 180_000,
        intervalMs: 100,
      },
    );
    const [first] = cloud.instances('gpu-service');
    if (first === undefined) throw new Error('there is no gpu instance');
    cloud.forget('gpu-service', first);
    await first.kill();
    const second = await cloud.start('gpu-service');
    // The queue's own retry met a live lease and was dropped: reconcile looks after the job now.
    const minutes = setInterval(() => void cloud?.reconcile(), 2_000);
    const settled = await waitUntilSettled(client, id).finally(() => clearInterval(minutes));
    expect(settled.status).toBe('completed');
    const found = second.log.find(({ message }) => message === 'transcribing what is not stored yet');
    expect(found?.stored).toBeGreaterThan(0);

    const undisturbed = await submit(client, sample, options);
    await waitUntilSettled(client, undisturbed.id);
    expect(await client.transcript(id, 'txt')).toBe(await client.transcript(undisturbed.id, 'txt'));
  }, 300_000);

  test('a task for a job that is not there, or is somebody else’s, is settled and never comes again', async () => {
    cloud = await startCloud({ env: fakeEngine() });
    const { id } = await submit(cloud.client, sample);
    await waitUntilSettled(cloud.client, id);
    // Until then the instance has no room for another call.
    await waitFor('both answers', () => cloud?.tasks.attempts.length === 2);
    const [gpu] = cloud.instances('gpu-service');
    const token = cloud.tasks.issuer.issue({ email: INVOKER, audience: GPU_ORIGIN });
    const call = async (body: unknown, authorization = `Bearer ${token}`): Promise<number> => {
      const response = await fetch(`${gpu?.url}/tasks`, {
        method: 'POST',
        headers: { authorization, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      return response.status;
    };
    const task = { type: 'transcribe', job: { owner: OWNER, id }, part: 1 };
    const before = await cloud.record({ owner: OWNER, id });
    expect(await call(task)).toBe(204);
    expect(await call({ ...task, job: { owner: 'somebody-else', id } })).toBe(204);
    expect(await call({ ...task, job: { owner: OWNER, id: id.replace(/.$/, '0') } })).toBe(204);
    expect(await call({ hello: 'there' })).toBe(204);
    expect(await call(task, 'Bearer forged.forged.forged')).toBe(401);
    expect(await cloud.record({ owner: OWNER, id })).toEqual(before);
    expect(JSON.stringify(gpu?.log)).not.toContain(token);
  }, 300_000);

  test('a job longer than one call may last is finished over several tasks', async () => {
    const env = fakeEngine({ batchDelayMs: 500 });
    env['gpu-service'] = { ...env['gpu-service'], TASK_CALL_LIMIT_SECONDS: '4' } as never;
    cloud = await startCloud({ env });
    const { id } = await submit(cloud.client, sample, { chunk_size: '1' });
    expect(await waitUntilSettled(cloud.client, id)).toMatchObject({
      status: 'completed',
      attempt: 1,
    });
    const [gpu] = cloud.instances('gpu-service');
    const found = (gpu?.log ?? [])
      .filter(({ message }) => message === 'transcribing what is not stored yet')
      .map(({ stored }) => Number(stored));
    expect(found.length).toBeGreaterThan(2);
    const record = await cloud.record({ owner: OWNER, id });
    expect(record.tries.transcribe).toEqual({ attempt: 1, part: found.length });
    // Each part began where the one before had stored to; the fake answers one second of audio a batch.
    console.info(`30 s of audio over ${found.length} tasks, which began at ${found.join(', ')} s`);
  }, 300_000);
});
