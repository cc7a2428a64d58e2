import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ingest } from '../../cpu-service/ingest.ts';
import { sine, wav } from '../../tests/support/media.ts';
import { SERVICE } from '../../tests/support/runs-store.ts';
import { type StartedApi, startApi } from '../../tests/support/start-api.ts';
import { makeWorkerStore, NO_ACCESS, type WorkerStore } from '../../tests/support/worker-store.ts';
import type { Backend } from '../backends.ts';
import { readInstallation } from '../installation.ts';
import { activeKey, jobKey, newJobId } from '../objects.ts';
import { moveOn } from '../tasks/move-on.ts';
import { retryJob } from '../tasks/retry-job.ts';
import { noteSpend, readSpend } from './daily-spend.ts';

const EVENING = Date.UTC(2026, 10, 26, 22);
const TOMORROW = EVENING + 2 * 3_600_000;
const SERVER: Backend = { name: 'server', kind: 'server', tier: 'premium', url: 'https://gpu.example' };
const LIMITED = { backends: [SERVICE], dailySpendLimitUsd: 0.5 };

describe('at the submission', () => {
  let api: StartedApi;
  let nowMs: number;
  afterEach(() => api.stop());

  async function start(limited: typeof LIMITED | { backends: Backend[]; dailySpendLimitUsd: number }) {
    nowMs = EVENING;
    api = await startApi({ ...limited, now: () => nowMs });
    for (const usd of [0.3, 0.2]) {
      const note = { usd, audio_seconds: 60, backend: SERVICE.name, is_final: usd < 0.3 };
      await noteSpend(api.records, newJobId(EVENING), note);
    }
  }

  const submit = (headers: Record<string, string> = {}) => {
    const body = new FormData();
    body.append('file', new Blob(['sound']), 'a.mp3');
    return fetch(`${api.url}/v1/transcriptions`, { method: 'POST', body, headers });
  };

  test('no more is taken once the jobs of the day have cost what they may, and the next day it is', async () => {
    await start(LIMITED);
    const before = await api.everything();
    const refused = await submit();
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '7200']);
    const problem = (await refused.json()) as Record<string, unknown>;
    expect(problem).toMatchObject({
      type: 'urn:zeroscribe:problem:spend-limit-reached',
      detail: expect.stringContaining('$0.5'),
    });
    expect(problem).not.toHaveProperty('retry_after_seconds');
    expect(await api.everything()).toEqual(before);
    nowMs = TOMORROW;
    expect((await submit()).status).toBe(202);
  });

  test('a higher limit lets it through', async () => {
    await start({ ...LIMITED, dailySpendLimitUsd: 0.51 });
    expect((await submit()).status).toBe(202);
  });

  test('what costs nothing by the job goes through', async () => {
    await start({ ...LIMITED, backends: [SERVER] });
    expect((await submit()).status).toBe(202);
  });

  test('so it does when its tier comes after the file', async () => {
    await start({ ...LIMITED, backends: [SERVICE, { ...SERVER, tier: 'standard' }] });
    const body = new FormData();
    body.append('file', new Blob(['sound']), 'a.mp3');
    body.append('tier', 'standard');
    const answer = await fetch(`${api.url}/v1/transcriptions`, { method: 'POST', body });
    expect(answer.status).toBe(202);
    expect((await submit()).status).toBe(429);
  });

  test('a request that is repeated finds its job', async () => {
    await start({ ...LIMITED, dailySpendLimitUsd: 0.51 });
    const headers = { 'idempotency-key': 'once' };
    const { id } = (await (await submit(headers)).json()) as { id: string };
    const note = { usd: 0.1, audio_seconds: 60, backend: SERVICE.name, is_final: false };
    await noteSpend(api.records, id, note);
    expect((await submit()).status).toBe(429);
    const again = await submit(headers);
    expect([again.status, ((await again.json()) as { id: string }).id]).toEqual([200, id]);
  });
});

describe('at ingest', () => {
  let store: WorkerStore;
  beforeEach(async () => {
    store = await makeWorkerStore();
  });
  afterEach(() => store.remove());

  test('a job fails with it before its backend is chosen, and goes through when it is retried the next day', async () => {
    const tools = { ffmpegPath: readInstallation().ffmpeg, scratchDir: '/nowhere', access: NO_ACCESS };
    const never = new AbortController().signal;
    const today = Date.now();
    const limited = { ...store, ...LIMITED, now: () => today };
    const note = { usd: 0.5, audio_seconds: 60, backend: SERVICE.name, is_final: true };
    await noteSpend(store.records, newJobId(today), note);
    const job = await store.submit({}, wav({ seconds: 1 }, sine));
    await store.change(job, (record) => {
      record.backend = SERVICE.name;
    });

    const outcome = await ingest(limited, tools, { type: 'ingest', job }, never);
    expect(outcome).toMatchObject({ kind: 'failed', error: { slug: 'spend-limit-reached' } });
    const failed = await store.record(job);
    expect(failed).toMatchObject({
      status: 'failed',
      problem: { status: 429 },
      tries: { ingest: { attempt: 1 } },
    });
    expect(failed.cost?.marginal_usd).toBeGreaterThan(0);
    expect(await store.records.read(activeKey(job))).toBeUndefined();

    await expect(retryJob(limited, job, today)).rejects.toMatchObject({ slug: 'spend-limit-reached' });
    const tomorrow = today + 24 * 3_600_000;
    expect((await retryJob(limited, job, tomorrow))?.status).toBe('queued');
    const later = { ...limited, now: () => tomorrow };
    expect(await ingest(later, tools, { type: 'ingest', job }, never)).toEqual({ kind: 'done' });
    expect(await store.record(job)).toMatchObject({
      status: 'processing',
      objects: { audio: [expect.any(String)] },
    });
    // It counts on the day that it is done on.
    const { jobs } = await readSpend(store.records, tomorrow);
    expect([...jobs.values()]).toMatchObject([{ backend: SERVICE.name, is_final: false }]);
  });

  test('what is asked about is the backend that gets the job, and not the one that was thought of at its submission', async () => {
    const tools = { ffmpegPath: readInstallation().ffmpeg, scratchDir: '/nowhere', access: NO_ACCESS };
    const never = new AbortController().signal;
    const short: Backend = { ...SERVER, max_duration_seconds: 0.5 };
    const limited = { ...store, backends: [short, SERVICE], dailySpendLimitUsd: 0.5 };
    const note = { usd: 0.5, audio_seconds: 60, backend: SERVICE.name, is_final: true };
    await noteSpend(store.records, newJobId(), note);
    const job = await store.submit({}, wav({ seconds: 1 }, sine));
    await store.change(job, (record) => {
      record.backend = short.name;
    });
    const outcome = await ingest(limited, tools, { type: 'ingest', job }, never);
    expect(outcome).toMatchObject({ kind: 'failed', error: { slug: 'spend-limit-reached' } });
  });

  test('a job goes from what costs nothing to what costs something only below the limit', async () => {
    const backends: Backend[] = [SERVER, SERVICE];
    const limited = { ...store, backends, dailySpendLimitUsd: 0.5 };
    const job = await store.submitDecoded(SERVER.name);
    const move = async () => {
      const stored = await store.records.read(jobKey(job));
      const reason = { because: 'has no room', is_passing: true };
      return moveOn(limited, await store.record(job), stored?.generation ?? '', reason);
    };
    const note = { usd: 0.5, audio_seconds: 60, backend: SERVICE.name, is_final: true };
    await noteSpend(store.records, newJobId(), note);
    expect(await move()).toBe(false);
    expect((await store.record(job)).backend).toBe(SERVER.name);
    limited.dailySpendLimitUsd = 0.6;
    expect(await move()).toBe(true);
    // What has begun goes on, however much there is noted by now.
    await store.change(job, (record) => {
      record.passed_over = [];
    });
    limited.backends = [SERVICE, { ...SERVICE, name: 'other' } as Backend];
    limited.dailySpendLimitUsd = 0.5;
    expect(await move()).toBe(true);
    expect((await store.record(job)).backend).toBe('other');
  });
});
