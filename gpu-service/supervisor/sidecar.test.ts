import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { createLog } from '../../core/log.ts';
import type { RawWord } from '../../core/transcripts/raw-segment.ts';
import { type FakeMode, type FakeOptions, fakeSidecarCommand } from '../../tests/support/fake-sidecar.ts';
import { isRunning } from '../../tests/support/processes.ts';
import { detectSpeechIn, transcribeIn } from '../../tests/support/sidecar-commands.ts';
import { waitFor } from '../../tests/support/wait-for.ts';
import type { PcmFile } from './protocol.ts';
import { Sidecar, type SidecarTimeouts } from './sidecar.ts';
import { CommandFailed, ProtocolBroken, SidecarExited, SidecarRefused } from './sidecar-errors.ts';

let folder: string;
let audio: PcmFile;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sidecar-'));
  audio = { path: join(folder, 'audio.pcm'), samples: 16_000 * 60 };
  writeFileSync(audio.path, Buffer.alloc(audio.samples * 2, 7));
});
afterAll(() => rmSync(folder, { recursive: true }));

let started: Sidecar[] = [];
let lines: string[] = [];
afterEach(async () => {
  await Promise.all(started.map((sidecar) => sidecar.stop(500)));
  const leftOver = started.filter(({ pid }) => pid !== undefined && isRunning(pid));
  started = [];
  lines = [];
  expect(leftOver).toEqual([]);
});

const log = createLog('test', { level: 'debug', destination: { write: (line) => lines.push(line) } });

function start(command: string[], timeouts: Partial<SidecarTimeouts> = {}): Sidecar {
  const sidecar = new Sidecar({ command, env: {}, log, timeouts });
  started.push(sidecar);
  return sidecar;
}

async function startReady(
  mode: FakeMode,
  options: FakeOptions = {},
  timeouts: Partial<SidecarTimeouts> = {},
): Promise<Sidecar> {
  const sidecar = start(fakeSidecarCommand(mode, options), timeouts);
  await sidecar.ready;
  return sidecar;
}

const CHUNKS = [0, 10, 20, 30, 40].map((start) => ({ start, end: start + 10 }));
const transcribe = (chunks = CHUNKS) => transcribeIn(audio, { model: 'small', chunks });
const detectSpeech = () => detectSpeechIn(audio);

/** What a promise was rejected with. */
async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}

async function exitOf(sidecar: Sidecar): Promise<SidecarExited> {
  const exit = await sidecar.gone;
  expect(exit).toBeInstanceOf(SidecarExited);
  return exit as SidecarExited;
}

describe('a sidecar that works', () => {
  test('says what it loaded, and answers one command after the other', async () => {
    const sidecar = start(fakeSidecarCommand('good', { language: 'de', config: { default_model: 'small' } }));
    expect(sidecar.state).toBe('starting');
    expect(await sidecar.ready).toMatchObject({ model: 'small', role: 'recognizer' });

    const { chunks } = await sidecar.run(detectSpeech());
    expect(chunks).toEqual([
      { start: 0, end: 30 },
      { start: 30, end: 60 },
    ]);
    const { language } = await sidecar.run({ type: 'detect_language', audio, model: 'small', chunks });
    expect(language).toBe('de');
    const diarize = { num_speakers: 2, min_speakers: null, max_speakers: null };
    const { turns } = await sidecar.run({ type: 'diarize', audio, ...diarize });
    expect(turns.map((turn) => turn.speaker)).toContain('SPEAKER_01');
    expect(sidecar.state).toBe('ready');
  });

  test('gives batches and progress in order, and is done only after the last batch was taken', async () => {
    const sidecar = await startReady('good', { config: { batch_size: 2 } });
    const events: string[] = [];
    const running = sidecar.run(transcribe(), {
      onProgress: (fraction) => events.push(`progress ${fraction}`),
      onBatch: async (chunks) => {
        events.push(`batch at ${chunks[0]?.start}`);
        await new Promise((resolve) => setTimeout(resolve, 30));
        events.push(`taken ${chunks[0]?.start}`);
      },
    });
    expect(sidecar.state).toBe('busy');
    expect(await running).toEqual({ batch_size: 2 });
    expect(events).toEqual([
      ...['batch at 0', 'taken 0', 'progress 0.4'],
      ...['batch at 20', 'taken 20', 'progress 0.8'],
      ...['batch at 40', 'taken 40', 'progress 1'],
    ]);
  });

  test('gives aligned words, without times where the aligner has none', async () => {
    const sidecar = await startReady('good');
    const chunks = [
      { start: 0, end: 2, text: 'the quick brown fox' },
      { start: 3, end: 5, text: '12 lazy dogs and' },
    ];
    const words: RawWord[] = [];
    await sidecar.run(
      { type: 'align', audio, language: 'en', chunks },
      { onBatch: (batch) => void words.push(...batch.flatMap((chunk) => chunk.segments[0]?.words ?? [])) },
    );
    expect(words.map((word) => word.word).join(' ')).toBe('the quick brown fox 12 lazy dogs and');
    expect(words.filter((word) => word.start === null).map((word) => word.word)).toEqual(['12']);
  });

  test('does not take a second command while it is busy', async () => {
    const sidecar = await startReady('good', { batchDelayMs: 20 });
    const first = sidecar.run(transcribe());
    await expect(sidecar.run(detectSpeech())).rejects.toThrow(
      'cannot run detect_speech: the sidecar is busy',
    );
    await first;
  });

  test('answers that the audio cannot be read, and goes on', async () => {
    const sidecar = await startReady('good');
    const gone = { path: join(folder, 'nowhere.pcm'), samples: 16_000 };
    const failure = await failureOf(sidecar.run({ ...detectSpeech(), audio: gone }));
    expect(failure).toBeInstanceOf(CommandFailed);
    expect(failure).toMatchObject({ reason: 'audio-unreadable' });
    await sidecar.run(detectSpeech());
  });

  test('ends by itself when it is asked to', async () => {
    const sidecar = await startReady('good');
    await sidecar.stop(5_000);
    expect(await exitOf(sidecar)).toMatchObject({ exitCode: 0, signal: null, isForcefullyTerminated: false });
    expect(sidecar.state).toBe('dead');
  });
});

describe('canceling', () => {
  test('ends the command with the reason of the signal, and keeps the process', async () => {
    const sidecar = await startReady('good', { batchDelayMs: 30 });
    const controller = new AbortController();
    const reason = new Error('the user changed their mind');
    let batches = 0;
    const running = sidecar.run(transcribe(), {
      signal: controller.signal,
      onBatch: () => {
        batches++;
        controller.abort(reason);
      },
    });
    expect(await failureOf(running)).toBe(reason);
    expect(batches).toBeLessThan(CHUNKS.length);
    expect(sidecar.state).toBe('ready');
    await sidecar.run(detectSpeech());
  });

  test('hands over what was finished meanwhile', async () => {
    const sidecar = await startReady('deaf-to-cancel', { batchesBefore: 3 }, { cancelTimeoutMs: 100 });
    const controller = new AbortController();
    const starts: number[] = [];
    const running = sidecar.run(transcribe(), {
      signal: controller.signal,
      onBatch: (chunks) => {
        controller.abort('enough');
        starts.push(...chunks.map((chunk) => chunk.start));
      },
    });
    expect(await failureOf(running)).toBe('enough');
    expect(starts).toEqual([0, 10, 20]);
  });

  test('does not begin what was canceled before', async () => {
    const sidecar = await startReady('good');
    await expect(sidecar.run(detectSpeech(), { signal: AbortSignal.abort('no') })).rejects.toBe('no');
    expect(sidecar.state).toBe('ready');
  });

  test('kills a sidecar that does not answer', async () => {
    const sidecar = await startReady('deaf-to-cancel', {}, { cancelTimeoutMs: 100 });
    const controller = new AbortController();
    const running = failureOf(sidecar.run(transcribe(), { signal: controller.signal }));
    controller.abort('enough');
    expect(await running).toBe('enough');
    expect(await exitOf(sidecar)).toMatchObject({ signal: 'SIGKILL', isForcefullyTerminated: true });
  });

  test('a batch that cannot be taken cancels the command, and is the last', async () => {
    const sidecar = await startReady('good', { batchDelayMs: 10 });
    const full = new Error('the store is full');
    let batches = 0;
    const running = sidecar.run(transcribe(), {
      onBatch: async () => {
        batches++;
        await new Promise((resolve) => setTimeout(resolve, 30)); // Meanwhile more are sent.
        throw full;
      },
    });
    expect(await failureOf(running)).toBe(full);
    expect(batches).toBe(1);
    expect(sidecar.state).toBe('ready');
  });
});

describe('deadlines', () => {
  test('a sidecar that is never ready is killed', async () => {
    const sidecar = start(fakeSidecarCommand('never-ready'), { startTimeoutMs: 100 });
    expect(await failureOf(sidecar.ready)).toMatchObject({ slug: 'sidecar-stalled' });
    expect(await exitOf(sidecar)).toMatchObject({ isForcefullyTerminated: true });
  });

  test('a sidecar without progress is killed', async () => {
    const sidecar = await startReady('wedged', { batchesBefore: 1 }, { stallTimeoutMs: 200 });
    let batches = 0;
    const failure = await failureOf(sidecar.run(transcribe(), { onBatch: () => void batches++ }));
    expect(failure).toMatchObject({ slug: 'sidecar-stalled' });
    expect(batches).toBe(1);
    expect(await exitOf(sidecar)).toMatchObject({ isForcefullyTerminated: true });
  });

  test('one that is slow but moves is not, nor one that waits for us', async () => {
    const sidecar = await startReady('good', { batchDelayMs: 60 }, { stallTimeoutMs: 150 });
    let isFirst = true;
    await sidecar.run(transcribe(), {
      onBatch: async () => {
        if (isFirst) await new Promise((resolve) => setTimeout(resolve, 300));
        isFirst = false;
      },
    });
  });
});

describe('a sidecar that breaks', () => {
  test('before it is ready: its traceback is in the error', async () => {
    const sidecar = start(fakeSidecarCommand('no-start'));
    const failure = await failureOf(sidecar.ready);
    expect(failure).toBeInstanceOf(SidecarExited);
    expect(failure).toMatchObject({ exitCode: 1, signal: null });
    expect((failure as SidecarExited).stderrTail).toContain('CUDA driver version is insufficient');
    expect(sidecar.state).toBe('dead');
  });

  test('because its command does not exist', async () => {
    const sidecar = start(['/nowhere/python']);
    expect(await failureOf(sidecar.ready)).toMatchObject({ code: 'ENOENT' });
    await sidecar.gone;
  });

  test('because it refuses: the reason is kept', async () => {
    const sidecar = start(fakeSidecarCommand('refused', { reason: 'out-of-memory' }));
    const failure = await failureOf(sidecar.ready);
    expect(failure).toBeInstanceOf(SidecarRefused);
    expect(failure).toMatchObject({ reason: 'out-of-memory' });
    await sidecar.gone;
  });

  test('in the middle of a command: the signal is named, and finished batches count', async () => {
    const sidecar = await startReady('crash', { batchesBefore: 2 });
    const starts: number[] = [];
    const running = sidecar.run(transcribe(), {
      onBatch: async (chunks) => {
        await new Promise((resolve) => setTimeout(resolve, 50));
        starts.push(...chunks.map((chunk) => chunk.start));
      },
    });
    const failure = await failureOf(running);
    expect(failure).toMatchObject({ signal: 'SIGKILL', isForcefullyTerminated: false });
    expect((failure as SidecarExited).stderrTail).toContain('Fatal Python error');
    expect(starts).toEqual([0, 10]);
  });

  test.each(['garbled', 'malformed', 'endless'] as const)(
    'by breaking the protocol (%s): it is killed at once',
    async (mode) => {
      const sidecar = await startReady(mode);
      expect(await failureOf(sidecar.run(transcribe()))).toBeInstanceOf(ProtocolBroken);
      expect(await exitOf(sidecar)).toMatchObject({ isForcefullyTerminated: true });
    },
  );

  test('a command for one that is dead is refused, and crashes nobody', async () => {
    const sidecar = await startReady('good');
    process.kill(sidecar.pid as number, 'SIGKILL');
    const failure = sidecar.run(transcribe()); // Written to a pipe that nobody reads.
    expect(await failureOf(failure)).toMatchObject({ signal: 'SIGKILL' });
    await expect(sidecar.run(detectSpeech())).rejects.toThrow('the sidecar is dead');
  });
});

/** What is really held, without garbage. */
function memoryBytes(): number {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

describe('noise', () => {
  test('neither blocks nor confuses nor grows: 66 MB on stderr and stdout', async () => {
    const beforeBytes = memoryBytes();
    const sidecar = await startReady('chatty');
    await sidecar.run(detectSpeech());
    // A third of what came: what is no longer needed, the collector has not always taken by now.
    expect(memoryBytes() - beforeBytes).toBeLessThan(20e6);
    await sidecar.stop(2_000);
    const { stderrTail } = await exitOf(sidecar);
    expect(stderrTail.split('\n')).toHaveLength(50);
    expect(stderrTail).toContain('the last words');
    expect(stderrTail.length).toBeLessThan(50 * 2_001);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(3_000);
  });
});

/** The number of the process that `spawns-child` started, from the log. */
async function grandchildOf(): Promise<number> {
  const pattern = /"message":"child (\d+)"/;
  await waitFor(`a line with ${pattern}`, () => lines.some((line) => pattern.test(line)));
  return Number(lines.map((line) => pattern.exec(line)?.[1]).find((pid) => pid !== undefined));
}

describe('nothing is left running', () => {
  test('one that is deaf is gone within the budget', async () => {
    const sidecar = await startReady('deaf');
    const startMs = performance.now();
    await sidecar.stop(1_000);
    expect(performance.now() - startMs).toBeLessThan(1_000);
    expect(await exitOf(sidecar)).toMatchObject({ signal: 'SIGKILL', isForcefullyTerminated: true });
    expect(isRunning(sidecar.pid as number)).toBe(false);
  });

  test('a command that runs when it is stopped is rejected', async () => {
    const sidecar = await startReady('wedged');
    const running = failureOf(sidecar.run(transcribe()));
    await sidecar.stop(1_000);
    expect(await running).toBeInstanceOf(SidecarExited);
  });

  test('what it started ends with it, when it is stopped', async () => {
    const sidecar = await startReady('spawns-child');
    const grandchild = await grandchildOf();
    expect(isRunning(grandchild)).toBe(true);
    await sidecar.stop(1_000);
    await waitFor('the end of the grandchild', () => !isRunning(grandchild));
  });

  test('what it started ends with it, when it crashes', async () => {
    const sidecar = await startReady('spawns-child');
    const grandchild = await grandchildOf();
    process.kill(sidecar.pid as number, 'SIGKILL');
    await sidecar.gone;
    await waitFor('the end of the grandchild', () => !isRunning(grandchild));
  });

  test('it ends, in the middle of a command too, when the service is killed', async () => {
    const script = `
      import { Sidecar } from ${JSON.stringify(join(import.meta.dirname, 'sidecar.ts'))};
      const log = { child: () => ({ debug() {}, info: (line) => console.log(line) }) };
      const sidecar = new Sidecar({ command: ${JSON.stringify(fakeSidecarCommand('spawns-child', { batchDelayMs: 60_000 }))}, env: {}, log });
      await sidecar.ready;
      sidecar.run(${JSON.stringify(transcribe())});
      console.log('sidecar ' + sidecar.pid);`;
    const service: ChildProcess = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    service.stdout?.on('data', (data) => {
      output += data;
    });
    await waitFor('both process ids', () => /child \d+/.test(output) && /sidecar \d+/.test(output));
    const pids = [/child (\d+)/, /sidecar (\d+)/].map((pattern) => Number(pattern.exec(output)?.[1]));
    expect(pids.map(isRunning)).toEqual([true, true]);
    service.kill('SIGKILL');
    await once(service, 'exit');
    await waitFor('the end of both', () => !pids.some(isRunning));
  });
});
