import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { readJson } from '../core/blobs/blobs.ts';
import type { Capabilities } from '../core/capabilities.ts';
import { readInstallation } from '../core/installation.ts';
import type { JobRecord } from '../core/job.ts';
import type { JobRef } from '../core/objects.ts';
import { type Problem, problemSlug } from '../core/problem.ts';
import type { Outcome } from '../core/tasks/outcome.ts';
import { retryJob } from '../core/tasks/retry-job.ts';
import { Transcript } from '../core/transcript.ts';
import { ingest } from '../cpu-service/ingest.ts';
import { type FakeMode, type FakeOptions, fakeSidecarCommand } from '../tests/support/fake-sidecar.ts';
import { sine, wav } from '../tests/support/media.ts';
import { waitFor } from '../tests/support/wait-for.ts';
import { makeWorkerStore, NO_ACCESS, type WorkerStore } from '../tests/support/worker-store.ts';
import type { Role } from './supervisor/protocol.ts';
import { Sidecars } from './supervisor/sidecars.ts';
import { transcribeJob } from './transcribe-job.ts';

// A fake sidecar: these are about what the worker does with a sidecar's answers and misbehaviour. What the real one
// answers is tested beside it and in tests/e2e. No packaged model can translate, detect a language or name speakers.

const ffmpegPath = readInstallation().ffmpeg;
const CAPABILITIES: Capabilities = {
  default_model: 'small',
  models: [
    { name: 'small', is_multilingual: true, can_translate: true },
    { name: 'large-v3-turbo', is_multilingual: true, can_translate: false },
  ],
  alignment_languages: ['en'],
  can_diarize: true,
};
const MEDIA = wav({ seconds: 20 }, sine);
const never = new AbortController().signal;

let store: WorkerStore;
let scratchDir: string;
let sidecars: Sidecars | undefined;

beforeEach(async () => {
  store = await makeWorkerStore();
  scratchDir = await mkdtemp(join(tmpdir(), 'scratch-'));
});
afterEach(async () => {
  await sidecars?.stop(2_000);
  sidecars = undefined;
  expect(await readdir(scratchDir)).toEqual([]);
  await rm(scratchDir, { recursive: true });
  await store.remove();
});

/** @param annotator what is otherwise with the annotator */
function start(
  mode: FakeMode = 'good',
  options: FakeOptions = {},
  annotator: FakeOptions & { mode?: FakeMode } = {},
): void {
  const commandOf = (role: Role) => {
    const { mode: itsMode = mode, ...its } = role === 'annotator' ? annotator : {};
    return fakeSidecarCommand(itsMode, { ...options, ...its, config: { ...options.config, role } });
  };
  sidecars = new Sidecars({
    commandOf,
    env: {},
    log: store.log,
    timeouts: { cancelTimeoutMs: 500 },
    expectsAnnotations: true,
  });
  sidecars.start();
}

/** A job that ingest is done with; ten chunks of two seconds. */
async function submit(fields: Record<string, unknown> = {}): Promise<JobRef> {
  const job = await store.submit({ chunk_size: 2, ...fields }, MEDIA);
  await ingest(store, { ffmpegPath, scratchDir, access: NO_ACCESS }, { type: 'ingest', job }, never);
  return job;
}

function attempt(
  job: JobRef,
  { capabilities = CAPABILITIES, signal = never, part = 1, overlapsStages = true } = {},
) {
  const tools = {
    sidecars: sidecars as Sidecars,
    capabilities,
    overlapsStages,
    ffmpegPath,
    scratchDir,
    access: NO_ACCESS,
  };
  return transcribeJob(store, tools, { type: 'transcribe', job, part }, signal);
}

async function transcriptOf(job: JobRef): Promise<Transcript> {
  const { objects } = await store.record(job);
  return Transcript.parse(await readJson(store.blobs, objects.transcript as string));
}

const codesOf = async (job: JobRef): Promise<string[]> =>
  (await store.record(job)).warnings.map(({ code }) => code);

describe('a job', () => {
  test('passes its stages and completes with aligned words', async () => {
    start();
    const job = await submit();
    expect(await attempt(job)).toEqual({ kind: 'done' });
    const record = await store.record(job);
    expect(record).toMatchObject({ status: 'completed', model: 'small', duration_seconds: 20, warnings: [] });
    expect(record.stages.map(({ name, status }) => `${name} ${status}`)).toEqual(
      ['decode', 'detect-speech', 'transcribe', 'align', 'write'].map((name) => `${name} done`),
    );
    const transcript = await transcriptOf(job);
    expect(transcript.words_from).toBe('alignment');
    expect(transcript.segments).toHaveLength(10);
    // A numeral has no times of its own.
    expect(
      transcript.segments.flatMap(({ words }) => words ?? []).find(({ word }) => word === '12'),
    ).toMatchObject({
      interpolated: true,
      start: expect.any(Number),
    });
  });

  test('in a language that was detected and has no aligner gets its words from attention', async () => {
    start('good', { language: 'de' });
    const job = await submit();
    await attempt(job);
    expect((await store.record(job)).language).toEqual({ code: 'de', probability: 0.98 });
    expect(await transcriptOf(job)).toMatchObject({ language: 'de', words_from: 'attention' });
  });

  test('that is to be translated ends in English, without alignment', async () => {
    start('good', { language: 'de' });
    const job = await submit({ task: 'translate' });
    await attempt(job);
    expect(await transcriptOf(job)).toMatchObject({ language: 'en', words_from: 'attention' });
  });

  test('with speakers has one for every word', async () => {
    start();
    const job = await submit({ diarize: true, num_speakers: 2 });
    await attempt(job);
    const { speakers, segments } = await transcriptOf(job);
    expect(speakers).toEqual(['SPEAKER_00', 'SPEAKER_01']);
    expect(segments.flatMap(({ words }) => words ?? []).every(({ speaker }) => speaker !== undefined)).toBe(
      true,
    );
  });

  test('with separate channels has each of them as a speaker, in the order of time', async () => {
    start();
    const media = wav({ seconds: 10, channels: 2 }, sine);
    const job = await store.submit({ chunk_size: 2, channels: 'separate' }, media);
    await ingest(store, { ffmpegPath, scratchDir, access: NO_ACCESS }, { type: 'ingest', job }, never);
    expect((await store.record(job)).objects.audio).toHaveLength(2);
    expect(await attempt(job)).toEqual({ kind: 'done' });
    const { duration, speakers, segments } = await transcriptOf(job);
    expect(duration).toBe(10);
    expect(speakers).toEqual(['SPEAKER_00', 'SPEAKER_01']);
    expect(segments.map(({ start }) => start)).toEqual(
      segments.map(({ start }) => start).toSorted((a, b) => a - b),
    );
    expect(segments.every(({ end }) => end <= 10)).toBe(true);
  });

  test('that the backend cannot do after all fails with the problem that submission would have given', async () => {
    start();
    const job = await submit({ diarize: true });
    const outcome = await attempt(job, { capabilities: { ...CAPABILITIES, can_diarize: false } });
    expect(outcome.kind).toBe('failed');
    const { problem } = await store.record(job);
    expect(problemSlug(problem as Problem)).toBe('diarization-not-configured');
  });

  test('whose audio is gone fails and says so', async () => {
    start();
    const job = await submit();
    await store.blobs.delete((await store.record(job)).objects.audio?.[0] as string);
    await attempt(job);
    expect(problemSlug((await store.record(job)).problem as Problem)).toBe('media-gone');
  });
});

describe('a cold start', () => {
  test('goes on while the audio is fetched and decoded, and the job says where the time went', async () => {
    const gate = join(scratchDir, 'gate');
    start('good', { readyWhen: gate, firstUseMs: 40 });
    const job = await submit({ diarize: true });
    const working = attempt(job);
    await waitFor('all of the audio, before the models are there', async () => {
      const [pcm] = (await readdir(scratchDir)).filter((name) => name.endsWith('.pcm'));
      return pcm !== undefined && (await stat(join(scratchDir, pcm))).size === 20 * 32_000;
    });
    expect(sidecars?.state).toBe('starting');
    await writeFile(gate, '');
    expect(await working).toEqual({ kind: 'done' });
    await rm(gate);

    const { cold_start_seconds, cold_start: parts } = (await store.record(job)).metrics;
    expect(parts).toMatchObject({
      instance: 'cold',
      // As the fake says.
      imports_seconds: 0.003,
      device_seconds: 0.001,
      model_seconds: 0.006,
      speech_seconds: 0.04,
      recognition_seconds: null,
      // Nothing of this process listens.
      listening_seconds: null,
    });
    // Those two also have to wait for the annotator, which starts when the recognizer is ready.
    expect(parts?.alignment_seconds).toBeGreaterThanOrEqual(0.04);
    expect(parts?.diarization_seconds).toBeGreaterThanOrEqual(0.04);
    expect(cold_start_seconds).toBeGreaterThan(0);
    expect(parts?.overlap_seconds).toBeGreaterThan(0);
    expect(parts?.overlap_seconds).toBeLessThanOrEqual(parts?.audio_seconds ?? 0);
    expect(parts?.ready_seconds).toBeGreaterThan(parts?.spawn_seconds ?? Number.NaN);
    expect(parts?.python_seconds).toBeGreaterThan(0);
  });

  test('is the first job’s alone: the next one meets a warm instance', async () => {
    start('good', { firstUseMs: 40 });
    await attempt(await submit());
    const second = await submit({ diarize: true });
    await attempt(second);
    const { cold_start_seconds, cold_start: parts } = (await store.record(second)).metrics;
    expect(cold_start_seconds).toBe(0);
    const { instance, audio_seconds, diarization_seconds, ...others } = parts ?? {};
    expect(instance).toBe('warm');
    expect(audio_seconds).toBeGreaterThan(0);
    // The first that needs a model loads it, on a warm instance too.
    expect(diarization_seconds).toBe(0.04);
    expect(new Set(Object.values(others))).toEqual(new Set([null]));
  });

  test('was nobody’s wait when the models were there before the job was', async () => {
    start();
    await sidecars?.whenReady();
    const job = await submit();
    await attempt(job);
    expect((await store.record(job)).metrics).toMatchObject({
      cold_start_seconds: 0,
      cold_start: { instance: 'warm', ready_seconds: null },
    });
  });

  test('of a sidecar that had to be started again has no part before that', async () => {
    start('crash', { at: 'transcribe', once: join(scratchDir, 'crashed') });
    const [first, job] = [await submit(), await submit()];
    await attempt(first);
    await attempt(job);
    await rm(join(scratchDir, 'crashed'));
    const parts = (await store.record(job)).metrics.cold_start;
    expect(parts).toMatchObject({ instance: 'cold', spawn_seconds: null, queue_to_process_seconds: null });
    expect(parts?.ready_seconds).toBeGreaterThan(0);
  });
});

describe('the two processes of the sidecar', () => {
  /** Of what stages began and ended, in order. */
  async function eventsOf(
    job: JobRef,
    working: Promise<unknown>,
    see: (record: JobRecord) => void = () => {},
  ): Promise<string[]> {
    const events: string[] = [];
    let isOver = false;
    const over = working.finally(() => {
      isOver = true;
    });
    let known = '';
    while (!isOver) {
      const record = await store.record(job);
      see(record);
      const now = record.stages.map(({ name, status }) => `${name} ${status}`).join(', ');
      if (now !== known) events.push(now);
      known = now;
      await new Promise((resolve) => setImmediate(resolve));
    }
    await over;
    return events;
  }

  test('work at the same time, and what comes of it is what comes one after the other', async () => {
    start('good', { batchDelayMs: 60 });
    const together = await submit({ diarize: true });
    const events = await eventsOf(together, attempt(together));
    expect(events.some((states) => /transcribe running, align running, diarize running/.test(states))).toBe(
      true,
    );
    const sumOf = (record: JobRecord) => record.stages.reduce((sum, { seconds }) => sum + seconds, 0);
    const overlapped = await store.record(together);
    // Three fifths of a second of the transcription, in which the speakers are told apart too.
    expect(overlapped.metrics.processing_seconds).toBeLessThan(sumOf(overlapped) - 0.2);

    const inTurn = await submit({ diarize: true });
    const others = await eventsOf(inTurn, attempt(inTurn, { overlapsStages: false }));
    expect(others.some((states) => /running.*running/.test(states))).toBe(false);
    expect(await transcriptOf(inTurn)).toEqual(await transcriptOf(together));
    const record = await store.record(inTurn);
    expect(record.metrics.processing_seconds).toBeCloseTo(sumOf(record), 1);
  });

  test('one that dies takes nothing of the other with it: what that finishes is stored', async () => {
    const once = join(scratchDir, 'once');
    start('crash', { at: 'transcribe', batchesBefore: 2, batchDelayMs: 30, once });
    const job = await submit({ diarize: true });
    expect(await attempt(job)).toMatchObject({ kind: 'retry', error: { slug: 'sidecar-failed' } });
    const { checkpoints, stages, warnings } = await store.record(job);
    expect(stages).toContainEqual(
      expect.objectContaining({ name: 'align', status: 'failed', fraction: 0.2 }),
    );
    expect(warnings).toEqual([]);
    expect(checkpoints.diarize).not.toBeNull();
    expect(checkpoints.transcribe).not.toEqual([]);
    expect(checkpoints.align).not.toEqual([]);
    expect(await attempt(job)).toEqual({ kind: 'done' });
    await rm(once);
    expect((await transcriptOf(job)).words_from).toBe('alignment');
  });

  test('the annotator that dies costs the recognizer no text', async () => {
    const once = join(scratchDir, 'once');
    start('crash', { at: 'align', once });
    await sidecars?.whenReady();
    const recognizer = sidecars?.recognizer.pid;
    const job = await submit();
    expect(await attempt(job)).toMatchObject({ kind: 'retry', error: { slug: 'sidecar-failed' } });
    expect((await store.record(job)).stages.find(({ name }) => name === 'transcribe')?.status).toBe('done');
    expect(await attempt(job)).toEqual({ kind: 'done' });
    await rm(once);
    expect(sidecars?.recognizer.pid).toBe(recognizer);
  });

  test('the time that a stage waits for text, for its turn or for its process is not its own', async () => {
    start('good', { batchDelayMs: 200 }, { batchDelayMs: 0, startDelayMs: 1_500 });
    const job = await submit({ diarize: true });
    await attempt(job);
    const { stages, metrics } = await store.record(job);
    const secondsOf = (name: string) => stages.find((stage) => stage.name === name)?.seconds ?? Number.NaN;
    // Ten batches.
    expect(secondsOf('transcribe')).toBeGreaterThanOrEqual(2);
    expect(secondsOf('align')).toBeLessThan(1);
    expect(secondsOf('diarize')).toBeLessThan(1);
    // Who waited for the annotator's start is told how long.
    expect(metrics.cold_start?.diarization_seconds).toBeGreaterThan(0.5);
  });

  test('words are made only of text that is stored', async () => {
    start('good', { batchDelayMs: 100 });
    const job = await submit();
    const stored: boolean[] = [];
    await eventsOf(job, attempt(job), ({ checkpoints }) => {
      stored.push(checkpoints.align.length === 0 || checkpoints.transcribe.length > 0);
    });
    expect(stored).not.toContain(false);
  });

  test('an annotator that refuses to start is a warning, and costs no second attempt', async () => {
    start('good', {}, { mode: 'refused' });
    const job = await submit({ diarize: true });
    expect(await attempt(job)).toEqual({ kind: 'done' });
    expect((await codesOf(job)).sort()).toEqual(['alignment-failed', 'diarization-failed']);
    expect(JSON.stringify((await store.record(job)).warnings)).toContain('The annotator cannot start');
  });

  test.each([
    ['transcribe', { kind: 'retry', error: { slug: 'sidecar-failed' } }, []],
    ['align', { kind: 'done' }, ['alignment-failed']],
  ] as const)(
    'are found out when they leave out a part of the recording (%s)',
    async (at, outcome, codes) => {
      start('forgetful', { at });
      const job = await submit();
      expect(await attempt(job)).toMatchObject(outcome);
      expect(await codesOf(job)).toEqual(codes);
    },
  );

  test('are ready one after the other, and the service says for which stages', async () => {
    const gate = join(scratchDir, 'gate');
    sidecars = new Sidecars({
      commandOf: (role) =>
        fakeSidecarCommand('good', role === 'annotator' ? { readyWhen: gate, config: { role } } : {}),
      env: {},
      log: store.log,
      expectsAnnotations: true,
    });
    expect(sidecars.readiness()).toMatchObject({ isReady: false, stages: { align: 'idle' } });
    sidecars.start();
    await sidecars.whenReady();
    await waitFor('the annotator to start', () => sidecars?.annotator.state === 'starting');
    expect(sidecars.readiness()).toMatchObject({
      isReady: true,
      stages: { transcribe: 'ready', align: 'starting', diarize: 'starting' },
    });
    await writeFile(gate, '');
    await sidecars.annotator.whenReady();
    await rm(gate);
    expect(sidecars.readiness().stages).toEqual({ transcribe: 'ready', align: 'ready', diarize: 'ready' });
  });
});

describe('what was done is not done again', () => {
  test('after the sidecar died in the middle, and the transcript is the same as without', async () => {
    start();
    const undisturbed = await submit();
    await attempt(undisturbed);
    await sidecars?.stop(2_000);

    const once = join(scratchDir, 'once');
    start('crash', { at: 'transcribe', batchesBefore: 4, batchDelayMs: 600, once });
    const job = await submit();
    expect(await attempt(job)).toMatchObject({ kind: 'retry', error: { slug: 'sidecar-failed' } });
    await rm(once);
    const [run] = (await store.record(job)).checkpoints.transcribe;
    expect(run?.parts).toBeGreaterThan(0);

    await sidecars?.stop(2_000);
    start();
    expect(await attempt(job)).toEqual({ kind: 'done' });
    expect(await transcriptOf(job)).toEqual(await transcriptOf(undisturbed));
  }, 60_000);

  test('a cancellation in mid-batch ends the command and keeps the sidecar', async () => {
    start('good', { batchDelayMs: 200 });
    await sidecars?.whenReady();
    const pid = sidecars?.recognizer.pid;
    const job = await submit();
    const working = attempt(job);
    await waitFor('transcription', async () => (await store.record(job)).stage === 'transcribe');
    await store.change(job, (record) => {
      record.cancel_requested = true;
    });
    expect(await working).toEqual({ kind: 'done' });
    expect((await store.record(job)).status).toBe('canceled');
    expect(sidecars?.recognizer.pid).toBe(pid);
    expect(sidecars?.state).toBe('ready');
  });

  test('a worker that is asked to stop gives the job back', async () => {
    start('good', { batchDelayMs: 200 });
    const job = await submit();
    const stopping = new AbortController();
    const working = attempt(job, { signal: stopping.signal });
    await waitFor('transcription', async () => (await store.record(job)).stage === 'transcribe');
    stopping.abort();
    expect(await working).toMatchObject({ kind: 'retry' });
    expect(await store.record(job)).toMatchObject({ lease: null, tries: { transcribe: { attempt: 0 } } });
  });
});

describe('a job longer than one call may last', () => {
  test('is finished over several calls, and hardly anything is transcribed twice', async () => {
    const batchDelayMs = 300;
    start('good', { batchDelayMs });
    const job = await submit();
    store = { ...store, callLimitMs: 1_400 };
    let parts = 0;
    let outcome: Outcome;
    do {
      outcome = await attempt(job, { part: parts + 1 });
      parts += 1;
    } while (outcome.kind === 'continue');
    expect(outcome).toEqual({ kind: 'done' });
    expect(parts).toBeGreaterThan(2);
    const record = await store.record(job);
    expect(record).toMatchObject({ status: 'completed', tries: { transcribe: { attempt: 1, part: parts } } });
    expect((await transcriptOf(job)).segments).toHaveLength(10);
  }, 30_000);

  test.each([
    ['', false],
    [', but with the words that waited behind them', true],
  ])(
    'ends without speakers when no call is long enough for them%s',
    async (_what, word_timestamps) => {
      // One batch takes half a second, and a diarization four times as long.
      start('good', { batchDelayMs: 500, config: { batch_size: 10 } });
      const job = await submit({ diarize: true, word_timestamps });
      store = { ...store, callLimitMs: 1_500 };
      const outcomes: string[] = [];
      for (let part = 1; outcomes.at(-1) !== 'done' && part < 8; part++) {
        outcomes.push((await attempt(job, { part })).kind);
      }
      // The first stores the text, and two more nothing, unless there are words.
      if (!word_timestamps) expect(outcomes).toEqual(['continue', 'continue', 'continue', 'done']);
      if (word_timestamps) expect((await transcriptOf(job)).words_from).toBe('alignment');
      expect(await codesOf(job)).toEqual(['diarization-failed']);
    },
    60_000,
  );

  test('fails when not even its first pieces fit', async () => {
    start('wedged', { at: 'detect_speech' });
    const job = await submit();
    store = { ...store, callLimitMs: 300 };
    const outcomes: string[] = [];
    for (let part = 1; part <= 2; part++) outcomes.push((await attempt(job, { part })).kind);
    expect(outcomes).toEqual(['continue', 'failed']);
    expect(problemSlug((await store.record(job)).problem as Problem)).toBe('no-progress');
  }, 60_000);
});

describe('partial success', () => {
  test.each([
    ['align', 'alignment-failed', { alignment_languages: ['en'] }],
    ['diarize', 'diarization-failed', {}],
  ] as const)('when %s fails the text is kept, and a retry runs only that', async (at, code, more) => {
    start('failing', { at, reason: 'internal' });
    const job = await submit({ diarize: true });
    expect(await attempt(job, { capabilities: { ...CAPABILITIES, ...more } as Capabilities })).toEqual({
      kind: 'done',
    });
    expect((await store.record(job)).status).toBe('completed');
    expect(await codesOf(job)).toEqual([code]);
    expect(JSON.stringify((await store.record(job)).warnings)).not.toContain('/srv/models');
    const before = await transcriptOf(job);

    await sidecars?.stop(2_000);
    start('failing', { at: 'transcribe', reason: 'internal' });
    await retryJob(store, job);
    expect(await attempt(job)).toEqual({ kind: 'done' });
    expect(await codesOf(job)).toEqual([]);
    const after = await transcriptOf(job);
    expect(after.text).toBe(before.text);
    expect(after.words_from).toBe('alignment');
    expect(after.speakers).toEqual(['SPEAKER_00', 'SPEAKER_01']);
  });

  test('out of memory in transcription is a failure that may pass', async () => {
    start('oom', { at: 'transcribe' });
    expect(await attempt(await submit())).toMatchObject({ kind: 'retry', error: { slug: 'out-of-memory' } });
  });
});
