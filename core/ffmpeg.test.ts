import { existsSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { childPids } from '../tests/support/child-pids.ts';
import { type FfmpegLimits, startFfmpeg } from './ffmpeg.ts';
import { readInstallation } from './installation.ts';

const { ffmpeg: ffmpegPath } = readInstallation();
// Real processes on a machine that may be busy: a second's work can take many.
jest.setTimeout(30_000);

const AMPLE: FfmpegLimits = {
  timeoutMs: 20_000,
  cpuSeconds: 20,
  memoryBytes: 2 ** 31,
  pipedBytes: 2 ** 30,
  fileBytes: 2 ** 20,
};
/** As much as anybody reads. */
const ENDLESS = ['-f', 'lavfi', '-i', 'anoisesrc', '-f', 's16le'];

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ffmpeg-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  expect(childPids()).toEqual([]);
});

function start(args: string[], limits: Partial<FfmpegLimits> = {}, signal?: AbortSignal) {
  return startFfmpeg(ffmpegPath, args, {
    limits: { ...AMPLE, ...limits },
    outputs: ['pipe'],
    ...(signal === undefined ? {} : { signal }),
  });
}

async function countBytes(pipe: AsyncIterable<Buffer> | undefined): Promise<number> {
  let bytes = 0;
  for await (const chunk of pipe ?? []) bytes += chunk.length;
  return bytes;
}

describe('startFfmpeg', () => {
  test('streams the output and tells how it ended', async () => {
    const run = start([...ENDLESS, '-t', '1', 'pipe:3']);
    expect(await countBytes(run.pipes[0])).toBe(2 * 48_000);
    expect(await run.exit).toMatchObject({ end: 'exited', exitCode: 0, signal: null });
  });

  test('keeps what a short run has written until somebody reads it', async () => {
    const run = start([...ENDLESS, '-t', '0.1', 'pipe:3']);
    expect(await run.exit).toMatchObject({ end: 'exited', exitCode: 0 });
    // Long enough for Node to throw away what nobody listens to.
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(await countBytes(run.pipes[0])).toBe(2 * 4_800);
  });

  test('kills what takes longer than its time', async () => {
    const run = start([...ENDLESS, 'pipe:3'], { timeoutMs: 200 });
    await expect(countBytes(run.pipes[0])).rejects.toThrow();
    expect((await run.exit).end).toBe('timeout');
  });

  test('kills what it has started, too', async () => {
    const program = join(folder, 'program');
    writeFileSync(program, '#!/bin/sh\nsleep 60; true', { mode: 0o700 });
    const run = startFfmpeg(program, [], { limits: { ...AMPLE, timeoutMs: 200 }, outputs: [] });
    expect(await run.exit).toMatchObject({ end: 'timeout', signal: 'SIGKILL' });
  });

  test('kills it when nobody reads', async () => {
    const run = start([...ENDLESS, 'pipe:3'], { timeoutMs: 200 });
    expect((await run.exit).end).toBe('timeout');
  });

  test('ends what takes more CPU time than it may', async () => {
    const run = start(['-f', 'lavfi', '-i', 'anoisesrc', '-f', 'null', '-'], { cpuSeconds: 1 });
    expect((await run.exit).end).toBe('cpu-limit');
  });

  const testWithMemoryLimit = process.platform === 'darwin' ? test.skip : test;
  testWithMemoryLimit('ends what takes more memory than it may', async () => {
    const run = start(['-f', 'lavfi', '-i', 'sine=duration=6000', '-af', 'areverse', '-f', 'null', '-'], {
      memoryBytes: 2 ** 28,
    });
    expect((await run.exit).end).toBe('memory-limit');
  });

  test('kills what pipes more than it may', async () => {
    const run = start([...ENDLESS, 'pipe:3'], { pipedBytes: 500_000 });
    await expect(countBytes(run.pipes[0])).rejects.toThrow();
    expect((await run.exit).end).toBe('output-limit');
  });

  test('lets no file grow beyond its limit, and none be written where none may be', async () => {
    const path = join(folder, 'file');
    const file = openSync(path, 'w');
    const run = startFfmpeg(ffmpegPath, [...ENDLESS, 'pipe:3'], { limits: AMPLE, outputs: [file] });
    expect((await run.exit).end).toBe('output-limit');
    expect(statSync(path).size).toBeLessThanOrEqual(AMPLE.fileBytes);

    const other = start([...ENDLESS, join(folder, 'other')], { fileBytes: 0 });
    expect((await other.exit).end).toBe('output-limit');
    expect(statSync(join(folder, 'other')).size).toBe(0);
  });

  test('kills it when the signal aborts, and starts nothing when it already has', async () => {
    const controller = new AbortController();
    const run = start([...ENDLESS, 'pipe:3'], {}, controller.signal);
    setTimeout(() => controller.abort(), 50);
    await expect(countBytes(run.pipes[0])).rejects.toThrow();
    expect((await run.exit).end).toBe('aborted');
    expect(() => start(ENDLESS, {}, controller.signal)).toThrow('aborted');
  });

  test('reads no argument as shell code', async () => {
    const trap = join(folder, 'trap');
    const run = start(['-i', `$(touch ${trap}); touch ${trap}; \`touch ${trap}\``, '-f', 'null', '-']);
    const { stderrTail } = await run.exit;
    expect(stderrTail).toContain('$(touch');
    expect(existsSync(trap)).toBe(false);
  });

  test('keeps the environment of this process from it', async () => {
    const program = join(folder, 'program');
    writeFileSync(program, '#!/bin/sh\nenv >&2', { mode: 0o700 });
    const lines: string[] = [];
    await startFfmpeg(program, [], { limits: AMPLE, outputs: [], onLogLine: (line) => lines.push(line) })
      .exit;
    const names = lines.map((line) => line.split('=')[0]);
    // PWD and its like are the shell's own.
    expect(names.filter((name) => !['PWD', 'OLDPWD', 'SHLVL', '_'].includes(name ?? '')).sort()).toEqual([
      'GCONV_PATH',
      'PATH',
    ]);
  });

  test('reads a log of any length, and keeps little of it', async () => {
    const program = join(folder, 'program');
    writeFileSync(program, '#!/bin/sh\nhead -c 5000000 /dev/zero >&2; echo >&2; seq 100000 >&2', {
      mode: 0o700,
    });
    const longest = { characters: 0 };
    const run = startFfmpeg(program, [], {
      limits: AMPLE,
      outputs: [],
      onLogLine: (line) => {
        longest.characters = Math.max(longest.characters, line.length);
      },
    });
    const { stderrTail } = await run.exit;
    expect(longest.characters).toBe(1000);
    expect(stderrTail.split('\n')).toHaveLength(40);
    expect(stderrTail).toMatch(/\n100000$/);
  });

  test('says when there is no such program', async () => {
    const run = startFfmpeg(join(folder, 'nowhere'), [], { limits: AMPLE, outputs: [] });
    expect(await run.exit).toMatchObject({ end: 'exited', exitCode: 127 });
  });
});
