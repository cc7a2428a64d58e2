import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import type { Readable, Writable } from 'node:stream';

export interface FfmpegLimits {
  /** From start to exit, waiting for whoever reads its output included. */
  timeoutMs: number;
  cpuSeconds: number;
  /** Address space. ffmpeg and its threads reserve about 0.2 GB before they have read anything. */
  memoryBytes: number;
  /** What comes through the pipes, all of them together. */
  pipedBytes: number;
  /** The largest file that may be written. */
  fileBytes: number;
}

/** How it came to its end. All but `exited` are ours. */
export type FfmpegEnd = 'exited' | 'aborted' | 'timeout' | 'cpu-limit' | 'memory-limit' | 'output-limit';

export interface FfmpegExit {
  end: FfmpegEnd;
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  /** The last lines of its log. They name files of ours: for the log, not for the user. */
  stderrTail: string;
}

/** The whole story of an ffmpeg that failed, to be the `cause` of what the user is told. */
export class FfmpegFailed extends Error {
  override readonly name = 'FfmpegFailed';
  readonly exit: FfmpegExit;
  constructor(exit: FfmpegExit) {
    const how = exit.signal === null ? `code ${exit.exitCode}` : exit.signal;
    super(`ffmpeg ended with ${how} (${exit.end}): ${exit.stderrTail}`);
    this.exit = exit;
  }
}

export interface Ffmpeg {
  /** `pipe:0`, when its `input` is a pipe. Errors on it are silent: the exit tells what happened. */
  input: Writable | null;
  /** One for each 'pipe' in `outputs`. They end by an error when ffmpeg is killed for a limit or by the signal. */
  pipes: AsyncIterable<Buffer>[];
  /** Resolves when the process is gone and its log read, whatever happened. Rejects when it could not be started. */
  exit: Promise<FfmpegExit>;
}

const STDERR_TAIL_LINES = 40;
/** A tag in a hostile file can print as a line of many megabytes. */
const STDERR_LINE_CHARACTERS = 1_000;
/** Enough to tell what went wrong; a list of decoders does not. */
const STDERR_TAIL_LINE_CHARACTERS = 300;

/**
 * One of its threads has met it. ffmpeg 7 does not always end then: the others may wait for that thread, try for ever,
 * or end the output where they are, as if that were all of it.
 */
const OUT_OF_MEMORY =
  /Task finished with error code: -12 |pthread_create\(\) failed|\[(?:error|fatal)\].*Cannot allocate memory/;

/**
 * All of its environment: a hostile file finds nothing there. A static build of ffmpeg crashes when its iconv loads
 * the modules of another glibc, which any MPEG transport stream makes it do, so it must find none. They only matter
 * to titles in old character sets.
 */
const ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin', GCONV_PATH: '/nonexistent' };

/** `exec` keeps the process id, so the shell is gone once ffmpeg runs; no argument is ever read as shell code. */
function limitedCommand({ cpuSeconds, memoryBytes, fileBytes }: FfmpegLimits): string {
  const limits = [
    'ulimit -c 0',
    `ulimit -t ${Math.ceil(cpuSeconds)}`,
    // In blocks of 512 bytes, as POSIX has it.
    `ulimit -f ${Math.ceil(fileBytes / 512)}`,
  ];
  // macOS refuses to limit the address space.
  if (process.platform !== 'darwin') limits.push(`ulimit -v ${Math.ceil(memoryBytes / 1024)}`);
  return `${limits.join(' && ')} && exec "$@"`;
}

/**
 * Runs ffmpeg as a process (and process group) of its own, under limits, with an empty environment.
 * `outputs` are its descriptors from 3 on (`pipe:3`, `pipe:4`, …): a pipe to read here, or an open file.
 * Every pipe must be read, or the process waits until its timeout. Killed at once when `signal` aborts.
 */
export function startFfmpeg(
  ffmpegPath: string,
  args: readonly string[],
  {
    limits,
    input = 'ignore',
    outputs,
    signal,
    onLogLine,
  }: {
    limits: FfmpegLimits;
    /** Its descriptor 0: a pipe to write here, or an open file, which `-i fd:` reads wherever it likes. */
    input?: 'ignore' | 'pipe' | number;
    outputs: readonly ('pipe' | number)[];
    signal?: AbortSignal;
    /** Each line of its log as `-loglevel level+info` prints it, cut off where it gets absurd. */
    onLogLine?: (line: string) => void;
  },
): Ffmpeg {
  signal?.throwIfAborted();
  const startedAtMs = performance.now();
  const child = spawn(
    '/bin/sh',
    [
      '-c',
      limitedCommand(limits),
      'sh',
      ffmpegPath,
      '-nostdin',
      '-hide_banner',
      '-nostats',
      '-loglevel',
      'level+info',
      ...args,
    ],
    {
      detached: true,
      env: ENVIRONMENT,
      stdio: [input, 'ignore', 'pipe', ...outputs],
    },
  );
  const stdio = child.stdio as (Readable | Writable | null)[];
  const pipes = outputs.flatMap((output, i) => (output === 'pipe' ? [stdio[3 + i] as Readable] : []));
  // Once the process has ended, Node lets pipes that nobody listens to run out: a short recording, whose reader comes a
  // moment late, would be lost. To this listener they keep what is in them.
  for (const pipe of pipes) pipe.on('readable', () => {});
  // Without a listener an error on a pipe would end this process. Readers see it all the same.
  for (const stream of stdio) stream?.on('error', () => {});

  let killedFor: Exclude<FfmpegEnd, 'exited'> | undefined;
  function kill(reason: Exclude<FfmpegEnd, 'exited'>): void {
    killedFor ??= reason;
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // Already gone.
      }
    }
    for (const pipe of pipes) pipe.destroy();
  }
  const timer = setTimeout(() => kill('timeout'), limits.timeoutMs);
  const onAbort = () => kill('aborted');
  signal?.addEventListener('abort', onAbort, { once: true });

  let pipedBytes = 0;
  async function* counted(pipe: Readable): AsyncGenerator<Buffer> {
    for await (const chunk of pipe as AsyncIterable<Buffer>) {
      pipedBytes += chunk.length;
      if (pipedBytes > limits.pipedBytes) kill('output-limit');
      yield chunk;
    }
  }

  async function waitForExit(): Promise<FfmpegExit> {
    const tail: string[] = [];
    const logRead = readLines(stdio[2] as Readable, (line) => {
      tail.push(line.slice(0, STDERR_TAIL_LINE_CHARACTERS));
      if (tail.length > STDERR_TAIL_LINES) tail.shift();
      if (OUT_OF_MEMORY.test(line)) kill('memory-limit');
      onLogLine?.(line);
    });
    try {
      // Not 'close': that would wait for the readers of the pipes.
      await once(child, 'exit');
      await logRead;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
    const { exitCode, signalCode } = child;
    const stderrTail = tail.join('\n');
    const mayHaveUsedCpuMs = (performance.now() - startedAtMs) * availableParallelism();
    const mayHaveUsedItsCpuTime = mayHaveUsedCpuMs >= limits.cpuSeconds * 1000;
    const end =
      killedFor ?? (exitCode === 0 ? 'exited' : limitReached(signalCode, stderrTail, mayHaveUsedItsCpuTime));
    return { end, exitCode, signal: signalCode, stderrTail };
  }
  const exit = waitForExit();
  exit.catch(() => {});
  return { input: input === 'pipe' ? (stdio[0] as Writable) : null, pipes: pipes.map(counted), exit };
}

/** Which of the kernel's limits ended it, if one did. */
function limitReached(
  signal: NodeJS.Signals | null,
  stderrTail: string,
  mayHaveUsedItsCpuTime: boolean,
): FfmpegEnd {
  // Linux kills at the limit, macOS asks first. A SIGKILL before that time came from somebody else.
  if (signal === 'SIGXCPU' || (signal === 'SIGKILL' && mayHaveUsedItsCpuTime)) return 'cpu-limit';
  if (signal === 'SIGXFSZ' || /File too large/.test(stderrTail)) return 'output-limit';
  if (/Cannot allocate memory/.test(stderrTail)) return 'memory-limit';
  return 'exited';
}

/** Reads to the end whatever comes: ffmpeg blocks once a full pipe holds its log. */
async function readLines(stream: Readable, onLine: (line: string) => void): Promise<void> {
  let line = '';
  stream.setEncoding('utf8');
  try {
    for await (const text of stream as AsyncIterable<string>) {
      const [first = '', ...others] = text.split('\n');
      line += first.slice(0, STDERR_LINE_CHARACTERS - line.length);
      for (const other of others) {
        onLine(line);
        line = other.slice(0, STDERR_LINE_CHARACTERS);
      }
    }
  } catch {
    // What was read is what there is.
  }
  if (line !== '') onLine(line);
}
