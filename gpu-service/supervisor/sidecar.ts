import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Logger } from '../../core/log.ts';
import { ServiceError } from '../../core/problem.ts';
import {
  AlignedChunk,
  FromSidecar,
  type Loadable,
  RESULTS,
  type SidecarCommand,
  type SidecarResult,
  type ToSidecar,
  TranscribedChunk,
} from './protocol.ts';
import { LineTooLong, readLines } from './read-lines.ts';
import { CommandFailed, ProtocolBroken, SidecarExited, SidecarRefused } from './sidecar-errors.ts';

/** starting → ready ⇄ busy; any → stopping → dead. */
export type SidecarState = 'starting' | 'ready' | 'busy' | 'stopping' | 'dead';

export type Ready = Extract<FromSidecar, { type: 'ready' }>;

export interface SidecarTimeouts {
  /** From spawn to `ready`: a large model from a slow disk. */
  startTimeoutMs: number;
  /** Without any message about the running command. Longer than the longest batch or window takes. */
  stallTimeoutMs: number;
  /** From `cancel` to the answer. */
  cancelTimeoutMs: number;
}

export const SIDECAR_TIMEOUTS: SidecarTimeouts = {
  startTimeoutMs: 300_000,
  stallTimeoutMs: 300_000,
  cancelTimeoutMs: 10_000,
};

const BATCHES = { transcribe: z.array(TranscribedChunk), align: z.array(AlignedChunk) } as const;

export type SidecarBatch<T extends SidecarCommand['type']> = T extends keyof typeof BATCHES
  ? z.infer<(typeof BATCHES)[T]>
  : never;

export interface RunOptions<T extends SidecarCommand['type']> {
  signal?: AbortSignal | undefined;
  onProgress?: ((fraction: number) => void) | undefined;
  /**
   * Called for one batch after the other; until it has resolved, nothing more is read from the sidecar.
   * Also called for what the sidecar finished while it was being canceled, which has cost as much as the rest,
   * but never again once it has thrown.
   */
  onBatch?: ((chunks: SidecarBatch<T>) => void | Promise<void>) | undefined;
  /** What the command had to wait for, because it was the first that needed it. Called before the result. */
  onLoads?: ((loads: Partial<Record<Loadable, number>>) => void) | undefined;
}

interface Running {
  id: number;
  type: SidecarCommand['type'];
  options: RunOptions<'transcribe' | 'align'>;
  result: PromiseWithResolvers<unknown>;
  cancellation: { because: unknown } | undefined;
  deadline: NodeJS.Timeout | undefined;
}

const STDERR_TAIL_LINES = 50;
const MAX_LOG_LINE_BYTES = 2_000;
/** Ten hours of turns or a batch of words are far below this. */
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;
/** For what the dead process left in its pipes, if somebody outside its group still holds them open. */
const DRAIN_TIMEOUT_MS = 1_000;
/** Between closing its end of the protocol and the process's own end. */
const EXIT_TIMEOUT_MS = 5_000;

export interface SidecarOptions {
  command: readonly string[];
  env: NodeJS.ProcessEnv;
  log: Logger;
  timeouts?: Partial<SidecarTimeouts>;
  /** What messages call it. */
  name?: string;
}

/** Supervises one Python process that holds the models, from its start to its end. Runs one command at a time. */
export class Sidecar {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #inbox: Writable;
  readonly #outbox: Readable;
  readonly #listening: Promise<void>;
  readonly #timeouts: SidecarTimeouts;
  readonly #ready = Promise.withResolvers<Ready>();
  readonly #gone = Promise.withResolvers<Error>();
  readonly #startDeadline: NodeJS.Timeout;
  readonly #stderrTail: string[] = [];
  #state: SidecarState = 'starting';
  #lastId = 0;
  #running: Running | undefined;
  /** Why we ended it, if we did. */
  #broken: { because: unknown } | undefined;
  #isForcefullyTerminated = false;
  #hasMissedCancellation = false;

  constructor({ command, env, log, timeouts = {}, name = 'transcriber' }: SidecarOptions) {
    const [file, ...args] = command;
    if (file === undefined) throw new TypeError('the sidecar command is empty');
    this.#name = name;
    this.#timeouts = { ...SIDECAR_TIMEOUTS, ...timeouts };
    this.#ready.promise.catch(() => {}); // Whoever awaits it sees the rejection; nobody awaiting it is no crash.
    // Its own process group, so that a kill also reaches the processes that it starts.
    this.#child = spawn(file, args, {
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
    });
    const [, stdout, stderr, inbox, outbox] = this.#child.stdio as [
      null,
      Readable,
      Readable,
      Writable,
      Readable,
    ];
    this.#inbox = inbox;
    this.#outbox = outbox;

    const childLog = log.child({ sidecar: this.#child.pid });
    // A write to a sidecar that has just died fails here too. Its exit is what gets reported.
    inbox.on('error', () => {});
    // Both are always read: once a pipe is full, Python blocks inside print().
    const logs = [
      eachLine(stdout, (line) => childLog.debug(line)),
      eachLine(stderr, (line) => {
        childLog.info(line);
        this.#stderrTail.push(line);
        if (this.#stderrTail.length > STDERR_TAIL_LINES) this.#stderrTail.shift();
      }),
    ];
    this.#listening = this.#listen();
    this.#startDeadline = setTimeout(() => {
      const seconds = this.#timeouts.startTimeoutMs / 1000;
      this.#breakOff(
        new ServiceError('sidecar-stalled', `The ${name} was not ready ${seconds} s after its start.`),
      );
    }, this.#timeouts.startTimeoutMs);

    // We never ask Node to signal the child, so an error is always one of starting it.
    this.#child.once('error', (error) => this.#bury(error));
    this.#child.once('exit', () => {
      this.#state = 'stopping';
      // What it started must not outlive it. Its number cannot belong to others while its group has members.
      this.#signalGroup('SIGKILL');
      const drain = setTimeout(() => {
        for (const pipe of [stdout, stderr, inbox, outbox]) pipe.destroy();
      }, DRAIN_TIMEOUT_MS);
      this.#child.once('close', () => clearTimeout(drain));
    });
    // 'close' and not 'exit': by then everything it wrote has been read.
    this.#child.once('close', async (exitCode: number | null, signal: NodeJS.Signals | null) => {
      await Promise.all(logs);
      const stderrTail = this.#stderrTail.join('\n');
      const isForcefullyTerminated = this.#isForcefullyTerminated;
      const hasMissedCancellation = this.#hasMissedCancellation;
      this.#bury(
        new SidecarExited({ exitCode, signal, stderrTail, isForcefullyTerminated, hasMissedCancellation }),
      );
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get state(): SidecarState {
    return this.#state;
  }

  /** Whether no command has reached it yet. */
  get isUnused(): boolean {
    return this.#lastId === 0;
  }

  /** @throws what kept it from becoming ready: SidecarRefused, SidecarExited, ProtocolBroken or a ServiceError */
  get ready(): Promise<Ready> {
    return this.#ready.promise;
  }

  /** Resolves once the process has ended, to how it did: SidecarExited, or why it could not be started at all. */
  get gone(): Promise<Error> {
    return this.#gone.promise;
  }

  /** Settles only after its last callback has, so nothing of a command goes on behind the back of its caller. */
  async run<C extends SidecarCommand>(
    command: C,
    options: RunOptions<C['type']> = {},
  ): Promise<SidecarResult<C['type']>> {
    if (this.#state !== 'ready') throw new Error(`cannot run ${command.type}: the sidecar is ${this.#state}`);
    const { signal } = options;
    signal?.throwIfAborted();
    const running: Running = {
      id: ++this.#lastId,
      type: command.type,
      options: options as Running['options'],
      result: Promise.withResolvers(),
      cancellation: undefined,
      deadline: undefined,
    };
    this.#state = 'busy';
    this.#running = running;
    const cancel = () => this.#cancel(running, signal?.reason);
    signal?.addEventListener('abort', cancel, { once: true });
    this.#send({ ...command, id: running.id });
    this.#watch(running);
    try {
      return (await running.result.promise) as SidecarResult<C['type']>;
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  /** Asks, then signals, then kills, all within `timeoutMs`. Resolves when the process is gone. */
  async stop(timeoutMs: number): Promise<void> {
    if (this.#state === 'dead') return;
    this.#state = 'stopping';
    this.#send({ type: 'shutdown' });
    const escalation = [
      setTimeout(() => this.#signalGroup('SIGTERM'), timeoutMs * 0.4),
      setTimeout(() => this.#kill(), timeoutMs * 0.8),
    ];
    // A process inside a driver call can outlive even SIGKILL for a while; the platform's deadline does not wait.
    const budget = new AbortController();
    const overBudget = sleep(timeoutMs, undefined, { signal: budget.signal }).catch(() => {});
    await Promise.race([this.#gone.promise, overBudget]);
    budget.abort();
    for (const timer of escalation) clearTimeout(timer);
  }

  #send(message: ToSidecar): void {
    if (!this.#inbox.destroyed) this.#inbox.write(`${JSON.stringify(message)}\n`);
  }

  async #listen(): Promise<void> {
    try {
      for await (const line of readLines(this.#outbox, { maxBytes: MAX_MESSAGE_BYTES, as: 'messages' })) {
        await this.#receive(parseMessage(line));
        if (this.#broken !== undefined) return;
      }
      const leaving = setTimeout(() => this.#kill(), EXIT_TIMEOUT_MS);
      void this.#gone.promise.then(() => clearTimeout(leaving));
    } catch (error) {
      if (error instanceof LineTooLong) this.#breakOff(new ProtocolBroken(error.message));
      else if (error instanceof ProtocolBroken) this.#breakOff(error);
      // Otherwise the pipe was closed by us, because the process has ended.
    }
  }

  async #receive(message: FromSidecar): Promise<void> {
    if (message.type === 'ready') {
      clearTimeout(this.#startDeadline);
      if (this.#state === 'starting') this.#state = 'ready';
      this.#ready.resolve(message);
      return;
    }
    if (message.type === 'refused') {
      this.#breakOff(new SidecarRefused(message.reason, message.message));
      return;
    }
    const running = this.#running;
    if (running?.id !== message.id) return;
    switch (message.type) {
      case 'progress':
        await this.#callBack(running, () => running.options.onProgress?.(message.fraction));
        break;
      case 'batch': {
        const chunks = parseBatch(running.type, message.chunks);
        await this.#callBack(running, () => running.options.onBatch?.(chunks));
        break;
      }
      case 'done': {
        const result = RESULTS[running.type].safeParse(message.result);
        if (!result.success)
          throw new ProtocolBroken(`the result of ${running.type}: ${z.prettifyError(result.error)}`);
        running.options.onLoads?.(message.loads);
        this.#finish((command) => command.result.resolve(result.data));
        break;
      }
      case 'failed':
        this.#finish((command) => command.result.reject(new CommandFailed(message.reason, message.message)));
        break;
    }
  }

  /** Our own slowness is no stall, so the deadline rests meanwhile. */
  async #callBack(running: Running, callback: () => void | Promise<void>): Promise<void> {
    clearTimeout(running.deadline);
    running.deadline = undefined;
    try {
      await callback();
    } catch (error) {
      running.options = {};
      this.#cancel(running, error);
    }
    if (this.#running === running) this.#watch(running);
  }

  #watch(running: Running): void {
    clearTimeout(running.deadline);
    const { stallTimeoutMs, cancelTimeoutMs } = this.#timeouts;
    const timeoutMs = running.cancellation === undefined ? stallTimeoutMs : cancelTimeoutMs;
    running.deadline = setTimeout(() => {
      this.#hasMissedCancellation = running.cancellation !== undefined;
      this.#breakOff(
        new ServiceError(
          'sidecar-stalled',
          `The ${this.#name} made no progress for ${timeoutMs / 1000} s and was stopped. The job will be tried again.`,
        ),
      );
    }, timeoutMs);
  }

  #cancel(running: Running, because: unknown): void {
    if (this.#running !== running || running.cancellation !== undefined) return;
    running.cancellation = { because };
    this.#send({ type: 'cancel', id: running.id });
    // While a callback runs the answer is not read; its end starts the deadline.
    if (running.deadline !== undefined) this.#watch(running);
  }

  #finish(settle: (running: Running) => void): void {
    const running = this.#running;
    if (running === undefined) return;
    clearTimeout(running.deadline);
    this.#running = undefined;
    if (this.#state === 'busy') this.#state = 'ready';
    if (running.cancellation === undefined) settle(running);
    else running.result.reject(running.cancellation.because);
  }

  /** What is wrong is known, so nobody waits for the process to end to hear of it. */
  #breakOff(because: unknown): void {
    if (this.#state === 'dead' || this.#broken !== undefined) return;
    this.#broken = { because };
    this.#state = 'stopping';
    clearTimeout(this.#startDeadline);
    this.#ready.reject(because);
    void this.#listening.then(() => this.#finish((running) => running.result.reject(because)));
    this.#kill();
    this.#outbox.destroy();
  }

  #bury(reason: Error): void {
    this.#state = 'dead';
    clearTimeout(this.#startDeadline);
    this.#ready.reject(reason);
    // The last words of the dead still count: a batch it had finished, or even `done`.
    void this.#listening.then(() => this.#finish((running) => running.result.reject(reason)));
    this.#gone.resolve(reason);
  }

  #kill(): void {
    this.#isForcefullyTerminated = true;
    this.#signalGroup('SIGKILL');
  }

  #signalGroup(signal: NodeJS.Signals): void {
    if (this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, signal);
    } catch {
      // Already gone.
    }
  }
}

function parseMessage(line: string): FromSidecar {
  try {
    return FromSidecar.parse(JSON.parse(line));
  } catch {
    throw new ProtocolBroken(`not a message: ${line.slice(0, 200)}`);
  }
}

function parseBatch(type: SidecarCommand['type'], chunks: unknown[]): TranscribedChunk[] | AlignedChunk[] {
  if (type !== 'transcribe' && type !== 'align') throw new ProtocolBroken(`${type} has no batches`);
  const batch = BATCHES[type].safeParse(chunks);
  if (!batch.success) throw new ProtocolBroken(`a batch of ${type}: ${z.prettifyError(batch.error)}`);
  return batch.data;
}

async function eachLine(stream: Readable, take: (line: string) => void): Promise<void> {
  try {
    for await (const line of readLines(stream, { maxBytes: MAX_LOG_LINE_BYTES, as: 'logs' })) take(line);
  } catch {
    // Closed by us, because the process has ended.
  }
}
