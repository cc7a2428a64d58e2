import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { z } from 'zod';
import { waitFor } from '../../tests/support/wait-for.ts';
import { makeWorkerStore, type WorkerStore } from '../../tests/support/worker-store.ts';
import { activeKey, audioKey, checkpointPartKey, type JobRef, jobKey, transcriptKey } from '../objects.ts';
import { problemSlug, ServiceError } from '../problem.ts';
import { checkpointed, Pieces } from './checkpoints.ts';
import { ATTEMPT_LIMIT } from './claim-job.ts';
import type { JobSession } from './job-session.ts';
import type { Outcome } from './outcome.ts';
import { runJobTask } from './run-job-task.ts';
import { settleJob } from './settle-job.ts';

let store: WorkerStore;
let job: JobRef;
const never = new AbortController().signal;

beforeEach(async () => {
  store = await makeWorkerStore();
  job = await store.submit();
});
afterEach(() => store.remove());

function run(
  work: (session: JobSession) => Promise<Outcome>,
  {
    worker = store,
    part = 1,
    interruption = never,
  }: { worker?: WorkerStore; part?: number; interruption?: AbortSignal } = {},
): Promise<Outcome> {
  return runJobTask(worker, 'ingest', { type: 'ingest', job, part }, interruption, work);
}

/** Works until its signal aborts. */
async function workOn(session: JobSession): Promise<Outcome> {
  await session.stage(
    'decode',
    () =>
      new Promise((_, reject) => {
        session.signal.addEventListener('abort', () => reject(session.signal.reason), { once: true });
      }),
  );
  return { kind: 'done' };
}

async function complete(worker: WorkerStore, session: JobSession): Promise<Outcome> {
  const key = transcriptKey(session.job, session.epoch);
  await worker.blobs.write(key, '{}', { contentType: 'application/json' });
  await settleJob(worker, session, { transcript: key });
  return { kind: 'done' };
}

describe('claiming', () => {
  test('of many workers at once, one gets the job', async () => {
    let claims = 0;
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, (_, index) => {
        const worker = store.as(`worker-${index}`);
        return run(
          async (session) => {
            claims += 1;
            await new Promise((resolve) => setTimeout(resolve, 50));
            return complete(worker, session);
          },
          { worker },
        );
      }),
    );
    expect(claims).toBe(1);
    expect(outcomes).toEqual(Array(10).fill({ kind: 'done' }));
    expect(await store.record(job)).toMatchObject({
      status: 'completed',
      epoch: 1,
      tries: { ingest: { attempt: 1, part: 1 } },
    });
  });

  test('a lease that is not renewed goes to the next worker, under a higher epoch', async () => {
    await store.change(job, (record) => {
      record.status = 'processing';
      record.epoch = 4;
      record.tries.ingest = { attempt: 1, part: 1 };
      record.lease = { holder: 'a worker that died', epoch: 4 };
    });
    expect(await run(async () => expect(0).toBe(1) as never)).toEqual({ kind: 'done' });
    await new Promise((resolve) => setTimeout(resolve, store.timing.leaseMs));
    await run(async (session) => {
      expect(session.epoch).toBe(5);
      expect(session.record.tries.ingest).toEqual({ attempt: 2, part: 1 });
      return complete(store, session);
    });
    expect((await store.record(job)).status).toBe('completed');
  });

  test('the lease of a holder that is known to be gone need not run out', async () => {
    await store.change(job, (record) => {
      record.lease = { holder: 'gone', epoch: 1 };
      record.epoch = 1;
    });
    const worker = { ...store, isHolderGone: (holder: string) => holder !== 'worker-1' };
    await run((session) => complete(worker, session), { worker });
    expect((await store.record(job)).status).toBe('completed');
  });

  test('a continuation raises the part and keeps the attempt', async () => {
    await store.change(job, (record) => {
      record.tries.ingest = { attempt: 2, part: 3 };
    });
    await run(
      async (session) => {
        expect(session.record.tries.ingest).toEqual({ attempt: 2, part: 4 });
        return complete(store, session);
      },
      { part: 4 },
    );
  });

  test('a continuation that was delivered before counts as another attempt', async () => {
    await store.change(job, (record) => {
      record.tries.ingest = { attempt: 2, part: 4 };
    });
    await run(
      async (session) => {
        expect(session.record.tries.ingest).toEqual({ attempt: 3, part: 1 });
        return complete(store, session);
      },
      { part: 4 },
    );
  });

  test.each(['completed', 'failed', 'canceled'] as const)('a %s job is left alone', async (status) => {
    await store.change(job, (record) => {
      record.status = status;
    });
    expect(await run(async () => expect(0).toBe(1) as never)).toEqual({ kind: 'done' });
  });

  test('a job that was deleted is left alone', async () => {
    await store.records.delete(jobKey(job));
    expect(await run(async () => expect(0).toBe(1) as never)).toEqual({ kind: 'done' });
  });

  test('a task the job is past is dropped', async () => {
    await store.change(job, (record) => {
      record.objects.audio = [audioKey(job, 1)];
    });
    expect(await run(async () => expect(0).toBe(1) as never)).toEqual({ kind: 'done' });
  });
});

describe('while working', () => {
  test('the lease stays alive for longer than it lasts', async () => {
    const first = run(async (session) => {
      await session.stage(
        'decode',
        () => new Promise<void>((resolve) => setTimeout(resolve, 3 * store.timing.leaseMs)),
      );
      return complete(store, session);
    });
    await new Promise((resolve) => setTimeout(resolve, 2 * store.timing.leaseMs));
    expect(await run(async () => expect(0).toBe(1) as never, { worker: store.as('worker-2') })).toEqual({
      kind: 'done',
    });
    expect(await first).toEqual({ kind: 'done' });
  });

  test('the record shows stage and progress', async () => {
    let finish = () => {};
    const working = run(async (session) => {
      await session.stage('decode', async (report) => {
        report(0.25);
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
      });
      return complete(store, session);
    });
    const record = await waitFor('progress', async () => {
      const current = await store.record(job);
      return current.stages[0]?.fraction === 0.25 ? current : undefined;
    });
    expect(record).toMatchObject({
      status: 'processing',
      stage: 'decode',
      stages: [{ name: 'decode', status: 'running' }],
    });
    finish();
    await working;
    expect((await store.record(job)).stages).toMatchObject([{ name: 'decode', status: 'done', fraction: 1 }]);
  });

  test('a cancellation stops the worker within moments and settles the job', async () => {
    const working = run(workOn);
    await waitFor('the claim', async () => (await store.record(job)).stage === 'decode');
    await store.change(job, (record) => {
      record.cancel_requested = true;
    });
    expect(await working).toEqual({ kind: 'done' });
    expect(await store.record(job)).toMatchObject({
      status: 'canceled',
      lease: null,
      task: null,
      stage: null,
    });
    expect(await store.records.read(activeKey(job))).toBeUndefined();
  });

  test('a cancellation before the claim settles the job without work', async () => {
    await store.change(job, (record) => {
      record.cancel_requested = true;
    });
    await run(async () => expect(0).toBe(1) as never);
    expect((await store.record(job)).status).toBe('canceled');
  });

  test('a deletion stops the worker, and the job does not come back', async () => {
    const working = run(workOn);
    await waitFor('the claim', async () => (await store.record(job)).stage === 'decode');
    await store.records.delete(jobKey(job));
    expect(await working).toEqual({ kind: 'done' });
    expect(await store.records.read(jobKey(job))).toBeUndefined();
  });

  test('a worker that lost its lease changes nothing any more', async () => {
    const working = run(workOn);
    await waitFor('the claim', async () => (await store.record(job)).stage === 'decode');
    await store.change(job, (record) => {
      record.epoch += 1;
      record.lease = { holder: 'worker-2', epoch: record.epoch };
    });
    expect(await working).toEqual({ kind: 'done' });
    expect(await store.record(job)).toMatchObject({
      lease: { holder: 'worker-2', epoch: 2 },
      status: 'processing',
    });
  });

  test('an interruption gives the job back without counting the attempt', async () => {
    const stopping = new AbortController();
    const working = run(workOn, { interruption: stopping.signal });
    await waitFor('the claim', async () => (await store.record(job)).stage === 'decode');
    stopping.abort();
    expect(await working).toMatchObject({ kind: 'retry' });
    expect(await store.record(job)).toMatchObject({
      status: 'processing',
      lease: null,
      stage: null,
      tries: { ingest: { attempt: 0 } },
    });
  });
});

describe('failing', () => {
  test('what may pass is tried again, and recorded as a failure after the limit', async () => {
    const outcomes: string[] = [];
    for (let attempt = 0; attempt < ATTEMPT_LIMIT; attempt++) {
      const outcome = await run(async () => {
        throw new ServiceError('sidecar-failed', 'It stopped.');
      });
      outcomes.push(outcome.kind);
    }
    expect(outcomes).toEqual(['retry', 'retry', 'retry', 'retry', 'failed']);
    const record = await store.record(job);
    expect(record.status).toBe('failed');
    expect(problemSlug(record.problem as never)).toBe('sidecar-failed');
    // A retry by the user can still use it.
    expect(record.objects.media).not.toBeNull();
    expect(await store.records.read(activeKey(job))).toBeUndefined();
  });

  test('what would fail again is recorded at once and leaves nothing but the record', async () => {
    const outcome = await run(async (session) => {
      await store.blobs.write(audioKey(job, session.epoch), 'half a file', { contentType: 'audio/flac' });
      throw new ServiceError('media-unreadable', 'It cannot be decoded.');
    });
    expect(outcome.kind).toBe('failed');
    expect(await store.record(job)).toMatchObject({
      status: 'failed',
      objects: { media: null, audio: null },
    });
    expect(await blobKeys()).toEqual([]);
    expect(await store.records.read(activeKey(job))).toBeUndefined();
  });

  test('an unexpected error shows nothing of itself', async () => {
    for (let attempt = 0; attempt < ATTEMPT_LIMIT; attempt++) {
      await run(async () => {
        throw new Error('secret path /etc/shadow');
      });
    }
    expect(JSON.stringify(await store.record(job))).not.toContain('secret');
  });

  test('a worker that vanishes again and again ends in a failure', async () => {
    await store.change(job, (record) => {
      record.tries.ingest = { attempt: ATTEMPT_LIMIT, part: 1 };
      record.lease = null;
    });
    expect(await run(async () => expect(0).toBe(1) as never)).toEqual({ kind: 'done' });
    const record = await store.record(job);
    expect(problemSlug(record.problem as never)).toBe('too-many-attempts');
  });
});

describe('checkpoints', () => {
  const Chunk = z.object({ text: z.string() });

  test('a finished stage is not done again by a later attempt', async () => {
    let times = 0;
    const detect = (session: JobSession) =>
      checkpointed(store, session, 'detect-speech', z.object({ chunks: z.array(Chunk) }), async () => {
        times += 1;
        return { chunks: [{ text: 'a' }] };
      });
    await run(async (session) => {
      await detect(session);
      throw new ServiceError('sidecar-failed', 'It stopped.');
    });
    await run(async (session) => {
      expect(await detect(session)).toEqual({ chunks: [{ text: 'a' }] });
      return complete(store, session);
    });
    expect(times).toBe(1);
  });

  test('pieces of several attempts come back in order, and those no record names do not', async () => {
    for (const texts of [['a', 'b'], ['c']]) {
      await run(async (session) => {
        const pieces = await Pieces.open(store, session, 'transcribe', Chunk);
        for (const text of texts) {
          await pieces.append([{ text }]);
          await pieces.flush();
        }
        // Written late, by a worker that had lost its lease.
        await store.blobs.write(checkpointPartKey(job, session.epoch, 'transcribe', 9), '[{"text":"x"}]', {
          contentType: 'application/json',
        });
        throw new ServiceError('sidecar-failed', 'It stopped.');
      });
    }
    await run(async (session) => {
      const pieces = await Pieces.open(store, session, 'transcribe', Chunk);
      expect(pieces.all).toEqual([{ text: 'a' }, { text: 'b' }, { text: 'c' }]);
      return complete(store, session);
    });
    expect(await blobKeys()).toEqual([
      expect.stringContaining('media/'),
      expect.stringContaining('transcripts/'),
    ]);
  });
});

async function blobKeys(): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.blobs.list('')) keys.push(key);
  return keys;
}
