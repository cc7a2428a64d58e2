import { afterEach, describe, expect, test } from '@jest/globals';
import { readInstallation } from '../../core/installation.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { type Cloud, OWNER, startCloud } from '../support/cloud.ts';
import { fakeSidecarCommand } from '../support/fake-sidecar.ts';
import { submit, waitUntilSettled } from '../support/submit.ts';
import { waitFor } from '../support/wait-for.ts';

const installation = readInstallation();
const sample = sampleRecording(installation.python);
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

describe('api, cpu-service and gpu-service as processes of their own', () => {
  test('turn an upload into a transcript in the bucket, with the real model', async () => {
    cloud = await startCloud();
    const { id } = await submit(cloud.client, sample, { language: 'en' });
    const settled = await waitUntilSettled(cloud.client, id, 90_000);
    expect(settled).toMatchObject({ status: 'completed', backend: 'cloud-run-service', problem: null });
    expect(await cloud.client.transcript(id, 'txt')).toContain('This is Diane in New Jersey.');
    const record = await cloud.record({ owner: OWNER, id });
    expect(await keys()).toContain(record.objects.transcript);
    // Every task came with a token that the service has verified, and was settled by its first try.
    expect(cloud.tasks.attempts.map(({ status }) => status)).toEqual([204, 204]);
    await waitFor('the marker to go', async () => !(await keys()).some((key) => key.startsWith('active/')));
    expect((await keys()).filter((key) => key.startsWith('work/'))).toEqual([]);
  }, 120_000);

  test('two gpu instances work thirty jobs off, each once', async () => {
    cloud = await startCloud({ gpuInstances: 2, env: fakeEngine({ batchDelayMs: 20 }) });
    const { client } = cloud;
    const jobs = await Promise.all(Array.from({ length: 30 }, () => submit(client, sample)));
    for (const { id } of jobs) {
      expect(await waitUntilSettled(client, id, 90_000)).toMatchObject({ status: 'completed', attempt: 1 });
    }
    expect((await keys()).filter((key) => key.startsWith('transcripts/'))).toHaveLength(30);
    const holders = cloud
      .instances('gpu-service')
      .map(
        ({ log }) =>
          log.filter(({ message, type }) => message === 'the task ended' && type === 'transcribe').length,
      );
    expect(holders.reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(30);
    expect(Math.min(...holders)).toBeGreaterThan(0);
  }, 180_000);

  test('SIGTERM gives the job back within ten seconds, and another instance finishes it', async () => {
    cloud = await startCloud({ env: fakeEngine({ batchDelayMs: 400 }) });
    const { id } = await submit(cloud.client, sample, { chunk_size: '1' });
    await waitFor('transcription', async () => (await cloud?.client.get(id))?.stage === 'transcribe', {
      timeoutMs: 30_000,
    });
    const [first] = cloud.instances('gpu-service');
    if (first === undefined) throw new Error('there is no gpu instance');
    await cloud.start('gpu-service');
    cloud.forget('gpu-service', first);
    const startedMs = performance.now();
    expect(await first.stop()).toBe(0);
    expect(performance.now() - startedMs).toBeLessThan(10_000);
    expect(await waitUntilSettled(cloud.client, id, 90_000)).toMatchObject({
      status: 'completed',
      attempt: 1,
    });
  }, 120_000);

  test('a job longer than one call may last is finished over several tasks', async () => {
    const env = fakeEngine({ batchDelayMs: 500 });
    env['gpu-service'] = { ...env['gpu-service'], TASK_CALL_LIMIT_SECONDS: '4' } as never;
    cloud = await startCloud({ env });
    const { id } = await submit(cloud.client, sample, { chunk_size: '1' });
    expect(await waitUntilSettled(cloud.client, id, 90_000)).toMatchObject({
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
  }, 120_000);
});
