import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { Client } from '../../cli/client.ts';
import type { Backend } from '../../core/backends.ts';
import { readInstallation } from '../../core/installation.ts';
import type { JobRecord } from '../../core/job.ts';
import { activeKey, type JobRef } from '../../core/objects.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { type Cloud, GPU_ORIGIN, OWNER, startCloud } from '../support/cloud.ts';
import { fakeSidecarCommand } from '../support/fake-sidecar.ts';
import { clipped } from '../support/recordings.ts';
import { startService } from '../support/service.ts';
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
const VERTEX: Backend = {
  name: 'vertex',
  kind: 'vertex-job',
  tier: 'premium',
  job: 'projects/test/locations/here',
  spec: { workerPoolSpecs: [{ containerSpec: { imageUri: 'gpu', env: [] } }] },
};
const SERVICE: Backend = { name: 'service', kind: 'cloud-run-service', tier: 'premium', url: GPU_ORIGIN };
const QUOTA = {
  operation: 'start',
  kind: 'refuse',
  status: 429,
  message: 'Quota exceeded for total allowable count of GPUs per project per region.',
} as const;

let cloud: Cloud | undefined;
afterEach(async () => {
  await cloud?.stop();
  cloud = undefined;
});

const fakeEngine = (batchDelayMs: number) => {
  const worker = { TASK_LEASE_SECONDS: '6' };
  const command = JSON.stringify(fakeSidecarCommand('good', { batchDelayMs }));
  return { 'gpu-service': { ...worker, SIDECAR_COMMAND: command }, 'cpu-service': worker };
};

const ref = ({ id }: { id: string }): JobRef => ({ owner: OWNER, id });

/** Waits until the record is as asked for. */
function recordOf(job: JobRef, what: string, is: (record: JobRecord) => boolean): Promise<JobRecord> {
  return waitFor(
    what,
    async () => {
      const record = await (cloud as Cloud).record(job);
      return is(record) ? record : undefined;
    },
    { timeoutMs: 180_000, intervalMs: 50 },
  );
}

test('a job gives the same transcript through each trigger: run once, pushed after a refusal, embedded', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-embedded-'));
  const seconds = { fromSeconds: 10.7, toSeconds: 17.7 };
  const recording = await clipped(installation.ffmpeg, sample, seconds, join(folder, 'recording.wav'));
  cloud = await startCloud({ backends: [RUN_JOB, SERVICE] });
  const { client, runs } = cloud;
  const options = { language: 'en' };

  const ranOnce = await submit(client, recording, options);
  expect(await waitUntilSettled(client, ranOnce.id)).toMatchObject({
    status: 'completed',
    backend: 'gpu-job',
    routing: { chosen: 'gpu-job', because: 'it comes first in BACKENDS', alternatives: ['service'] },
  });

  runs.inject(QUOTA);
  const pushed = await submit(client, recording, options);
  expect(await waitUntilSettled(client, pushed.id)).toMatchObject({
    status: 'completed',
    attempt: 1,
    backend: 'service',
    routing: { chosen: 'service', because: 'gpu-job has no room for another job at the moment' },
  });
  await waitFor('the run to end, and well', () => runs.executions[0]?.state === 'succeeded');
  expect(runs.executions).toHaveLength(1);
  const transcripts = await Promise.all(
    [ranOnce, pushed].map(async ({ id }) => JSON.parse(await client.transcript(id, 'json'))),
  );
  await cloud.stop();
  cloud = undefined;

  const standalone = await startService(join(folder, 'data'), { WHISPER_MODEL: 'tiny.en' });
  try {
    const embedded = new Client(standalone.url);
    const { id } = await submit(embedded, recording, options);
    expect(await waitUntilSettled(embedded, id)).toMatchObject({ backend: 'standalone' });
    transcripts.push(JSON.parse(await embedded.transcript(id, 'json')));
  } finally {
    await standalone.stop();
    await rm(folder, { recursive: true });
  }
  expect(transcripts[0].text).toMatch(/this is Diane in New Jersey/i);
  for (const transcript of transcripts) expect(transcript).toEqual(transcripts[0]);
}, 300_000);

test('runs are found after a lost reply, kept below their limit, and stopped while they are pending', async () => {
  cloud = await startCloud({
    gpuInstances: 0,
    backends: [{ ...RUN_JOB, max_running: 1 }],
    env: fakeEngine(0),
  });
  const { client, runs, records } = cloud;
  runs.hold(true);
  runs.inject({ operation: 'start', kind: 'lose-reply' });
  const first = await submit(client, sample);
  await recordOf(ref(first), 'the run to be found', ({ run }) => run?.state === 'started');
  expect(runs.executions).toHaveLength(1);

  const second = await submit(client, sample);
  await recordOf(ref(second), 'ingest', ({ objects, lease }) => objects.audio !== null && lease === null);
  const refusals = () =>
    (cloud as Cloud)
      .log()
      .filter(({ type, outcome, job }) => type === 'start-run' && outcome === 'retry' && job === second.id);
  await waitFor('the limit', () => refusals().length > 0);
  expect(runs.executions).toHaveLength(1);

  expect((await client.cancel(first.id)).status).toBe('canceled');
  await waitFor('the run to be stopped', () => runs.executions[0]?.state === 'canceled');
  await waitFor('the marker to go', async () => (await records.read(activeKey(ref(first)))) === undefined);

  await recordOf(ref(second), 'the run of the second', ({ run }) => run?.state === 'started');
  runs.hold(false);
  expect(await waitUntilSettled(client, second.id)).toMatchObject({ status: 'completed', attempt: 1 });
  expect(runs.executions.map(({ state }) => state)[0]).toBe('canceled');
  expect(runs.executions).toHaveLength(2);
}, 300_000);

test('a run that is stopped gives its job back, and one that dies is followed by the next attempt', async () => {
  cloud = await startCloud({ gpuInstances: 0, backends: [VERTEX], env: fakeEngine(400) });
  const { client, runs, runProcesses } = cloud;
  const { id } = await submit(client, sample, { chunk_size: '1' });
  const job = { owner: OWNER, id };
  const atWork = (count: number) =>
    waitFor(
      `run ${count} to store a batch`,
      async () => {
        const { stage, checkpoints } = await (cloud as Cloud).record(job);
        return stage === 'transcribe' && checkpoints.transcribe.length >= count;
      },
      { timeoutMs: 180_000, intervalMs: 50 },
    );
  await atWork(1);
  const exited = once(runProcesses[0]?.process as never, 'exit');
  runProcesses[0]?.process.kill('SIGTERM');
  expect(await exited).toEqual([0, null]);

  await atWork(2);
  expect((await cloud.record(job)).tries.transcribe).toEqual({ attempt: 1, part: 1 });
  await runProcesses[1]?.kill();
  await waitFor('the API to notice', () => runs.executions[1]?.state === 'failed');
  const minutes = setInterval(() => void cloud?.reconcile(), 2_000);
  const settled = await waitUntilSettled(client, id).finally(() => clearInterval(minutes));
  expect(settled).toMatchObject({ status: 'completed', attempt: 2 });
  await waitFor('the last run to end', () => runs.executions[2]?.state === 'succeeded');
  expect(runs.executions).toHaveLength(3);
}, 300_000);

test('a run whose engine cannot start has made an attempt, which is counted', async () => {
  const command = JSON.stringify(fakeSidecarCommand('refused', { reason: 'model-not-available' }));
  const env = { 'gpu-service': { SIDECAR_COMMAND: command } };
  cloud = await startCloud({ gpuInstances: 0, backends: [RUN_JOB], env });
  const { client, runs, queue } = cloud;
  const { id } = await submit(client, sample);
  await recordOf(
    { owner: OWNER, id },
    'the run to give the job back',
    ({ tries, lease, run }) => tries.transcribe.attempt === 1 && lease === null && run === null,
  );
  await waitFor('the run to end, and well', () => runs.executions[0]?.state === 'succeeded');
  // The next is a while away: nobody pays for engines that fail as fast as they can.
  const { task } = await cloud.record({ owner: OWNER, id });
  expect(await queue.has(task as never)).toBe(true);
  expect(runs.executions).toHaveLength(1);
}, 300_000);
