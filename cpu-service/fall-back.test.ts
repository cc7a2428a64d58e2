import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Backend } from '../core/backends.ts';
import type { JobRef } from '../core/objects.ts';
import { openRuns } from '../core/runs/open-runs.ts';
import { CPU_QUEUE } from '../core/tasks/task.ts';
import { agedRecords } from '../tests/support/aged-records.ts';
import { FakeMistral } from '../tests/support/fake-mistral/fake-mistral.ts';
import { hearNumbers, spokenNumbers } from '../tests/support/fake-mistral/spoken-numbers.ts';
import { type FakeRunApi, startFakeRunApi } from '../tests/support/fake-run-api/fake-run-api.ts';
import { CLOUD_RUN_JOB, SERVICE } from '../tests/support/runs-store.ts';
import { makeVoxtralWorker, type VoxtralWorker } from '../tests/support/voxtral-worker.ts';
import { reconcile } from './reconcile.ts';
import { startRun } from './start-run.ts';

const MINUTE_MS = 60_000;
const VOXTRAL: Backend = { name: 'voxtral', kind: 'voxtral', tier: 'standard' };
const never = new AbortController().signal;
let worker: VoxtralWorker;
let runApi: FakeRunApi;
let mistral: FakeMistral;
let mistralUrl: string;

beforeEach(async () => {
  worker = await makeVoxtralWorker();
  runApi = await startFakeRunApi({ jobs: [CLOUD_RUN_JOB.job] });
  mistral = new FakeMistral({ hear: hearNumbers, ffmpegPath: worker.ffmpegPath });
  mistralUrl = await mistral.listen();
});
afterEach(async () => {
  await mistral.close();
  await runApi.close();
  await worker.remove();
});

/** A premium job that ingest is done with. */
async function submit(gpu: Backend, fields: Record<string, unknown>): Promise<JobRef> {
  const { store } = worker;
  store.backends = [VOXTRAL, gpu];
  store.runs = openRuns(store.backends, { runApiEndpoint: runApi.url, vertexApiEndpoint: runApi.url });
  return worker.submit({ tier: 'premium', ...fields }, spokenNumbers(5));
}

async function startItsRun(job: JobRef): Promise<void> {
  const { task } = await worker.store.record(job);
  expect(task?.queue).toBe(CPU_QUEUE);
  runApi.inject({ operation: 'start', kind: 'refuse', status: 429, message: 'quota' });
  await startRun(worker.store, { type: 'start-run', job, part: 1 });
}

const fallBack = { allow_fallback: 'true' };

test('where no GPU can be had the standard tier does the job, if it may', async () => {
  const job = await submit(CLOUD_RUN_JOB, fallBack);
  expect((await worker.store.record(job)).routing).toMatchObject({
    tier: 'premium',
    alternatives: ['voxtral'],
  });
  // What the GPU had begun with before is no use to the other engine.
  await worker.store.change(job, (record) => {
    record.engine = 'whisperx';
    record.checkpoints.transcribe = [{ epoch: 1, parts: 3 }];
  });
  await startItsRun(job);
  const moved = await worker.store.record(job);
  expect(moved).toMatchObject({
    backend: 'voxtral',
    task: { queue: 'voxtral' },
    routing: { tier: 'standard' },
  });
  expect(moved.routing.because).toContain('gpu-job');
  expect(await worker.attempt(job, worker.tools(mistralUrl))).toEqual({ kind: 'done' });
  expect(await worker.store.record(job)).toMatchObject({ status: 'completed', engine: 'voxtral' });
  expect((await worker.transcript(job)).text).toBe('n0 n1 n2 n3 n4');
});

test('so it does where a GPU service takes the job too late', async () => {
  const job = await submit(SERVICE, fallBack);
  const { task } = await worker.store.record(job);
  expect(task?.queue).toBe('service');
  const records = agedRecords(worker.store.records, 16 * MINUTE_MS);
  await reconcile({ ...worker.store, records }, { type: 'reconcile' }, never);
  expect(await worker.store.queue.has(task as never)).toBe(false);
  expect(await worker.store.record(job)).toMatchObject({
    backend: 'voxtral',
    routing: { tier: 'standard', because: 'service did not begin with it in time' },
  });
  await worker.attempt(job, worker.tools(mistralUrl));
  expect(await worker.store.record(job)).toMatchObject({ status: 'completed', engine: 'voxtral' });
});

test('without leave it waits for a GPU', async () => {
  const job = await submit(CLOUD_RUN_JOB, {});
  await startItsRun(job);
  expect(await worker.store.record(job)).toMatchObject({ backend: 'gpu-job', status: 'processing' });
});
