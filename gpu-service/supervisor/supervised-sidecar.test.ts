import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { createLog } from '../../core/log.ts';
import { ServiceError } from '../../core/problem.ts';
import { type FakeMode, type FakeOptions, fakeSidecarCommand } from '../../tests/support/fake-sidecar.ts';
import { isRunning } from '../../tests/support/processes.ts';
import { detectSpeechIn, transcribeIn } from '../../tests/support/sidecar-commands.ts';
import { waitFor } from '../../tests/support/wait-for.ts';
import type { PcmFile } from './protocol.ts';
import {
  SupervisedSidecar,
  type SupervisedSidecarOptions,
  type Unavailability,
} from './supervised-sidecar.ts';

let folder: string;
let audio: PcmFile;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'supervised-'));
  audio = { path: join(folder, 'audio.pcm'), samples: 16_000 * 30 };
  writeFileSync(audio.path, Buffer.alloc(audio.samples * 2, 7));
});
afterAll(() => rmSync(folder, { recursive: true }));

let supervised: SupervisedSidecar[] = [];
let lines: string[] = [];
afterEach(async () => {
  await Promise.all(supervised.map((sidecar) => sidecar.stop(500)));
  const leftOver = supervised.filter(({ pid }) => pid !== undefined && isRunning(pid));
  supervised = [];
  lines = [];
  expect(leftOver).toEqual([]);
});

const log = createLog('test', { destination: { write: (line) => lines.push(line) } });

function supervise(
  mode: FakeMode,
  fake: FakeOptions = {},
  options: Partial<SupervisedSidecarOptions> = {},
): SupervisedSidecar {
  const sidecar = new SupervisedSidecar({
    command: fakeSidecarCommand(mode, fake),
    env: {},
    log,
    ...options,
  });
  supervised.push(sidecar);
  return sidecar;
}

const CHUNKS = [0, 10, 20].map((start) => ({ start, end: start + 10 }));
const transcribe = () => transcribeIn(audio, { model: 'small', chunks: CHUNKS });
const detectSpeech = () => detectSpeechIn(audio);

async function problemOf(promise: Promise<unknown>): Promise<ServiceError> {
  try {
    await promise;
  } catch (error) {
    expect(error).toBeInstanceOf(ServiceError);
    return error as ServiceError;
  }
  throw new Error('it did not fail');
}

test('starts with the first command, or earlier when it is told to', async () => {
  const lazy = supervise('good');
  expect(lazy.state).toBe('idle');
  await lazy.run(detectSpeech());
  expect(lazy.state).toBe('ready');

  const eager = supervise('good', { config: { default_model: 'small' } });
  eager.start();
  expect(eager.state).toBe('starting');
  expect(await eager.whenReady()).toMatchObject({ model: 'small' });
});

describe('turns', () => {
  test('commands wait for each other, in order', async () => {
    const sidecar = supervise('good', { batchDelayMs: 20 });
    const finished: string[] = [];
    await Promise.all([
      sidecar.run(transcribe()).then(() => finished.push('transcribe')),
      sidecar.run(detectSpeech()).then(() => finished.push('detect_speech')),
    ]);
    expect(finished).toEqual(['transcribe', 'detect_speech']);
  });

  test('one that is canceled while it waits leaves the line, and those behind it keep their place', async () => {
    const sidecar = supervise('good', { batchDelayMs: 20 });
    const controller = new AbortController();
    const first = sidecar.run(transcribe());
    const second = sidecar.run(detectSpeech(), { signal: controller.signal });
    const third = sidecar.run(detectSpeech());
    controller.abort('no longer wanted');
    await expect(second).rejects.toBe('no longer wanted');
    await waitFor('a command to run', () => sidecar.state === 'busy');
    await Promise.all([first, third]);
  });

  test('waiting for a model to load can be canceled too', async () => {
    const sidecar = supervise('never-ready');
    const running = sidecar.run(detectSpeech(), { signal: AbortSignal.timeout(50) });
    await expect(running).rejects.toMatchObject({ name: 'TimeoutError' });
    await expect(sidecar.whenReady(AbortSignal.abort('no'))).rejects.toBe('no');
  });
});

describe('restarts', () => {
  test('a crash fails the command that ran, and the next finds a new process', async () => {
    const sidecar = supervise('crash', { at: 'transcribe', once: join(folder, 'crashed') });
    await sidecar.run(detectSpeech());
    const firstPid = sidecar.pid;
    const problem = await problemOf(sidecar.run(transcribe()));
    expect(problem.slug).toBe('sidecar-failed');
    expect(problem.message).toBe(
      'The transcriber stopped unexpectedly (SIGKILL). It may have run out of memory. The job will be tried again.',
    );
    expect(problem.cause).toMatchObject({ stderrTail: expect.stringContaining('Fatal Python error') });
    await sidecar.run(transcribe());
    expect(sidecar.pid).not.toBe(firstPid);
    expect(lines.join()).toContain('stderrTail');
  });

  test('a death while nothing runs is noticed, and it is loaded again before anybody asks', async () => {
    const sidecar = supervise('good');
    await sidecar.whenReady();
    const firstPid = sidecar.pid;
    process.kill(firstPid as number, 'SIGKILL');
    await waitFor('the restart', () => sidecar.state === 'ready' && sidecar.pid !== firstPid);
    await sidecar.run(detectSpeech());
  });

  test('a stalled one is replaced', async () => {
    const sidecar = supervise(
      'wedged',
      { once: join(folder, 'wedged') },
      { timeouts: { stallTimeoutMs: 100 } },
    );
    expect((await problemOf(sidecar.run(transcribe()))).slug).toBe('sidecar-stalled');
    await sidecar.run(transcribe());
  });

  test('one that did not answer a cancel is replaced, however often, and that is no failure', async () => {
    const sidecar = supervise('deaf-to-cancel', { at: 'transcribe' }, { timeouts: { cancelTimeoutMs: 50 } });
    for (let cancels = 1; cancels <= 5; cancels++) {
      await sidecar.whenReady();
      const { pid } = sidecar;
      const controller = new AbortController();
      const running = sidecar.run(transcribe(), { signal: controller.signal });
      await waitFor('the command to run', () => sidecar.state === 'busy');
      controller.abort('no longer wanted');
      await expect(running).rejects.toBe('no longer wanted');
      await waitFor('the next process', () => sidecar.pid !== pid);
    }
    await sidecar.run(detectSpeech());
    expect(lines.filter((line) => line.includes('outlasted a cancellation'))).toHaveLength(5);
    expect(lines.filter((line) => /"severity":"ERROR"|stack/.test(line))).toEqual([]);
  });

  test('one that refuses is not started again, and says what to do without naming our files', async () => {
    const told: Unavailability[] = [];
    const sidecar = supervise(
      'refused',
      {},
      { onUnavailable: (unavailability) => told.push(unavailability) },
    );
    const problem = await problemOf(sidecar.run(detectSpeech()));
    expect(problem.slug).toBe('sidecar-unavailable');
    expect(problem.message).toContain('one of its models is missing or cannot be read');
    expect(problem.message).not.toContain('/srv');
    expect(lines.join()).toContain('/srv/models/small has no model.bin');
    expect(sidecar.state).toBe('unavailable');
    expect(told).toEqual([
      {
        error: problem,
        reason:
          'The transcriber cannot start: one of its models is missing or cannot be read. It says: /srv/models/small has no model.bin',
        isFinal: true,
      },
    ]);
    const { pid } = sidecar;
    expect(await problemOf(sidecar.run(detectSpeech()))).toBe(problem);
    expect(sidecar.pid).toBe(pid);
  });

  test('one that dies again and again, or cannot even be started, is given up after three restarts', async () => {
    const sidecar = supervise('no-start');
    const missing = supervise('good', {}, { command: ['/nowhere/python'] });
    const problems = await Promise.all([problemOf(sidecar.whenReady()), problemOf(missing.whenReady())]);
    for (const problem of problems) {
      expect(problem).toMatchObject({ slug: 'sidecar-unavailable', retry: true });
      expect(problem.message).not.toMatch(/CUDA|nowhere/);
    }
    expect(
      lines.filter((line) => line.includes('CUDA driver version') && line.includes('"err"')),
    ).toHaveLength(4);
    expect(lines.filter((line) => line.includes('ENOENT') && line.includes('"err"'))).toHaveLength(4);
    expect(sidecar.state).toBe('unavailable');
    expect(await problemOf(sidecar.run(detectSpeech()))).toBe(problems[0]);
  }, 60_000);
});

describe('one that died too often', () => {
  const kill = async (sidecar: SupervisedSidecar) => {
    await sidecar.whenReady();
    const { pid } = sidecar;
    process.kill(pid as number, 'SIGKILL');
    await waitFor('its end', () => sidecar.pid !== pid || sidecar.state === 'unavailable');
  };

  test('is started again when it may be, with nobody asking', async () => {
    const told: Unavailability[] = [];
    const sidecar = supervise(
      'good',
      {},
      {
        restartPolicy: { delaysMs: [0, 0], windowMs: 3_000 },
        onUnavailable: (unavailability) => told.push(unavailability),
      },
    );
    sidecar.start();
    for (let kills = 1; kills <= 3; kills++) await kill(sidecar);
    expect(sidecar.state).toBe('unavailable');
    expect((await problemOf(sidecar.run(detectSpeech()))).slug).toBe('sidecar-unavailable');
    expect(told).toMatchObject([{ isFinal: false, reason: expect.stringContaining('ended by SIGKILL') }]);
    await waitFor('another start', () => sidecar.state === 'ready', { timeoutMs: 10_000 });
    await sidecar.run(detectSpeech());
  }, 60_000);

  test('is waited for, when it can start and is worth it', async () => {
    const sidecar = supervise(
      'good',
      {},
      { restartPolicy: { delaysMs: [0], windowMs: 3_000 }, isWorthWaitingFor: true, name: 'annotator' },
    );
    for (let kills = 1; kills <= 2; kills++) await kill(sidecar);
    expect(sidecar.state).toBe('unavailable');
    await sidecar.run(detectSpeech());
    expect(lines.join()).toContain('The annotator stopped again and again');

    const hopeless = supervise(
      'no-start',
      {},
      { restartPolicy: { delaysMs: [], windowMs: 60_000 }, isWorthWaitingFor: true },
    );
    expect((await problemOf(hopeless.run(detectSpeech()))).slug).toBe('sidecar-unavailable');
  }, 60_000);

  test('can be stopped while it waits', async () => {
    const sidecar = supervise('good', {}, { restartPolicy: { delaysMs: [], windowMs: 60_000 } });
    await kill(sidecar);
    await sidecar.stop(1_000);
    expect(sidecar.state).toBe('stopped');
    expect((await problemOf(sidecar.whenReady())).slug).toBe('interrupted');
  });
});

describe('what a user reads', () => {
  test.each([
    ['out-of-memory', 'out-of-memory'],
    ['audio-unreadable', 'media-unreadable'],
    ['model-not-available', 'model-not-available'],
    ['internal', 'sidecar-failed'],
  ])('%s becomes %s, and shows nothing of the machine', async (reason, slug) => {
    const sidecar = supervise('failing', { reason });
    const problem = await problemOf(sidecar.run(transcribe()));
    expect(problem.slug).toBe(slug);
    expect(problem.message).not.toContain('/srv');
    expect(lines.join()).toContain('/srv/models/x: it failed');
    expect(sidecar.state).toBe('ready');
  });

  test('an answer that makes no sense fails the command', async () => {
    const sidecar = supervise('garbled');
    expect(await problemOf(sidecar.run(transcribe()))).toMatchObject({ slug: 'sidecar-failed', retry: true });
  });

  test('what the caller’s own callback threw comes back as it was', async () => {
    const sidecar = supervise('good');
    const full = new Error('the store is full');
    await expect(sidecar.run(transcribe(), { onBatch: () => Promise.reject(full) })).rejects.toBe(full);
  });
});

describe('stopping', () => {
  test('interrupts what runs and what waits, within the budget', async () => {
    const sidecar = supervise('deaf', { batchDelayMs: 60_000 });
    await sidecar.whenReady();
    const running = problemOf(sidecar.run(transcribe()));
    const waiting = problemOf(sidecar.run(detectSpeech()));
    await waitFor('a command to run', () => sidecar.state === 'busy');
    const startMs = performance.now();
    await sidecar.stop(1_000);
    expect(performance.now() - startMs).toBeLessThan(1_000);
    expect((await running).slug).toBe('interrupted');
    expect((await waiting).slug).toBe('interrupted');
    expect(sidecar.state).toBe('stopped');
    expect((await problemOf(sidecar.run(detectSpeech()))).slug).toBe('interrupted');
  });

  test('ends one that is still loading, and starts no other', async () => {
    const sidecar = supervise('never-ready');
    const waiting = problemOf(sidecar.whenReady());
    const { pid } = sidecar;
    await sidecar.stop(1_000);
    expect((await waiting).slug).toBe('interrupted');
    expect(isRunning(pid as number)).toBe(false);
    expect(sidecar.pid).toBe(pid);
  });

  test('is quick when nothing was started', async () => {
    const sidecar = supervise('good');
    await sidecar.stop(1_000);
    expect(sidecar.state).toBe('stopped');
    expect(sidecar.pid).toBeUndefined();
  });
});
