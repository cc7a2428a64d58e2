import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../core/log.ts';
import { ServiceError } from '../../core/problem.ts';
import type { WaitFor } from '../../core/tasks/job-session.ts';
import { abortable } from './abortable.ts';
import type { FailureReason, SidecarCommand, SidecarResult } from './protocol.ts';
import { nextRestart, RESTART_POLICY, type RestartPolicy } from './restart-policy.ts';
import { type RunOptions, Sidecar, type SidecarOptions } from './sidecar.ts';
import { CommandFailed, ProtocolBroken, SidecarExited, SidecarRefused } from './sidecar-errors.ts';
import { type SidecarStart, startParts } from './sidecar-start.ts';

/** `idle`: not started yet. `unavailable`: it refused for good, or died too often to be started again just now. */
export type SupervisedState =
  | 'idle'
  | 'starting'
  | 'ready'
  | 'busy'
  | 'restarting'
  | 'unavailable'
  | 'stopping'
  | 'stopped';

export interface SupervisedSidecarOptions extends SidecarOptions {
  restartPolicy?: RestartPolicy;
  /** When one that can start has died too often, whoever waits goes on waiting. Otherwise they are told. */
  isWorthWaitingFor?: boolean;
  /** Where a platform replaces whole instances, the service ends itself here. */
  onUnavailable?: (unavailability: Unavailability) => void;
}

export interface Unavailability {
  /** What callers get: it names nothing of this machine. */
  error: ServiceError;
  /** For the operator alone: a sentence with the sidecar's own words. */
  reason: string;
  /** It refused, and starting it again will not help. Otherwise that is done once it may be again. */
  isFinal: boolean;
}

export interface SupervisedRunOptions<T extends SidecarCommand['type']> extends RunOptions<T> {
  /** Given what the command has to wait for, before it runs: its turn, and a process that is ready. */
  waitFor?: WaitFor | undefined;
}

type Generation = { sidecar: Sidecar; start: Omit<SidecarStart, 'isUnused'> };

/**
 * The sidecar as the service sees it: always there, whichever process that is at the moment.
 * Failures come out as ServiceErrors; what a caller's own signal or callback threw comes out as it was.
 */
export class SupervisedSidecar {
  readonly #options: SupervisedSidecarOptions;
  readonly #log: Logger;
  readonly #stopping = new AbortController();
  readonly #restartsMs: number[] = [];
  #state: SupervisedState = 'idle';
  #sidecar: Sidecar | undefined;
  #current = pending<Generation>();
  #lastTurn: Promise<void> = Promise.resolve();

  constructor(options: SupervisedSidecarOptions) {
    this.#options = options;
    this.#log = options.log;
  }

  get state(): SupervisedState {
    if (this.#state !== 'ready') return this.#state;
    const state = this.#sidecar?.state;
    return state === 'ready' || state === 'busy' ? state : 'restarting';
  }

  /** Of the process that runs now, for logs and tests. */
  get pid(): number | undefined {
    return this.#sidecar?.pid;
  }

  /** Begins to load the models, so that the first command finds them there. Without it, the first command does. */
  start(): void {
    if (this.#state === 'idle') void this.#keepAlive();
  }

  /** @throws {ServiceError} `sidecar-unavailable` once it is known that it will not be ready */
  async whenReady(signal?: AbortSignal): Promise<SidecarStart> {
    const { sidecar, start } = await this.#whenReady(signal);
    return { ...start, isUnused: sidecar.isUnused };
  }

  /** One command at a time: others wait for their turn. */
  async run<C extends SidecarCommand>(
    command: C,
    { waitFor = (other) => other, ...options }: SupervisedRunOptions<C['type']> = {},
  ): Promise<SidecarResult<C['type']>> {
    const endTurn = await waitFor(this.#turn(options.signal));
    try {
      const { sidecar } = await waitFor(this.#whenReady(options.signal));
      try {
        return await sidecar.run(command, options);
      } catch (error) {
        throw this.#explain(error, command);
      }
    } finally {
      endTurn();
    }
  }

  /** Within `timeoutMs`, whatever the process does. Commands that run or wait fail with `interrupted`. */
  async stop(timeoutMs: number): Promise<void> {
    if (this.#state === 'stopped') return;
    this.#state = 'stopping';
    const interruption = interrupted();
    this.#stopping.abort(interruption);
    this.#current.reject(interruption);
    await this.#sidecar?.stop(timeoutMs);
    this.#state = 'stopped';
  }

  async #keepAlive(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const { death, wasReady } = await this.#live();
      if (this.#stopping.signal.aborted) return;
      if (death instanceof SidecarRefused) {
        this.#giveUp(refusal(death, this.#name), true);
        return;
      }
      this.#state = 'restarting';
      // No sign of a sidecar that cannot live.
      if (hasMissedCancellation(death)) continue;
      const { delayMs, isExhausted } = nextRestart(
        this.#restartsMs,
        Date.now(),
        this.#options.restartPolicy ?? RESTART_POLICY,
      );
      const isOver = isExhausted && !(wasReady && this.#options.isWorthWaitingFor);
      if (isExhausted) this.#giveUp(exhaustion(death, this.#name), isOver);
      await sleep(delayMs, undefined, { signal: this.#stopping.signal }).catch(() => {});
      if (isOver) this.#current = pending();
      this.#restartsMs.push(Date.now());
    }
  }

  /** One process from its start to its end. Gives what it died of. */
  async #live(): Promise<{ death: unknown; wasReady: boolean }> {
    let sidecar: Sidecar;
    const isFirst = this.#sidecar === undefined;
    const spawnedMs = performance.now();
    try {
      sidecar = new Sidecar(this.#options);
    } catch (error) {
      return { death: error, wasReady: false }; // The machine has no process or descriptor left.
    }
    this.#sidecar = sidecar;
    this.#state = 'starting';
    let whyNeverReady: Error | undefined;
    try {
      const ready = await sidecar.ready;
      if (!this.#stopping.signal.aborted) this.#state = 'ready';
      const readyMs = performance.now();
      const start = { ...ready, spawnedMs, readyMs, isFirst };
      const { model, device, compute_type } = ready;
      this.#log.info({ model, device, compute_type, ...startParts(start) }, 'the sidecar is ready');
      this.#current.resolve({ sidecar, start });
    } catch (error) {
      whyNeverReady = error as Error;
    }
    // Also after it was given up: two processes would not fit into the memory of one GPU.
    const death = await sidecar.gone;
    const wasReady = whyNeverReady === undefined;
    if (this.#stopping.signal.aborted) return { death, wasReady };
    const because = whyNeverReady === death ? undefined : whyNeverReady?.toString();
    if (hasMissedCancellation(death))
      this.#log.info('a batch outlasted a cancellation, so the sidecar is replaced');
    else this.#log.error({ err: death, because }, death.message);
    if (wasReady) this.#current = pending();
    return { death: whyNeverReady ?? death, wasReady };
  }

  get #name(): string {
    return this.#options.name ?? 'transcriber';
  }

  #giveUp(unavailability: Unavailability, tellsWaiting: boolean): void {
    this.#log.error(unavailability.reason);
    this.#state = 'unavailable';
    if (tellsWaiting) this.#current.reject(unavailability.error);
    this.#options.onUnavailable?.(unavailability);
  }

  async #whenReady(signal: AbortSignal | undefined): Promise<Generation> {
    for (;;) {
      this.#stopping.signal.throwIfAborted();
      this.start();
      const generation = await abortable(this.#current.promise, signal);
      if (generation.sidecar.state === 'ready' || generation.sidecar.state === 'busy') return generation;
      await abortable(generation.sidecar.gone, signal);
    }
  }

  async #turn(signal: AbortSignal | undefined): Promise<() => void> {
    const earlier = this.#lastTurn;
    const { promise, resolve: endTurn } = Promise.withResolvers<void>();
    this.#lastTurn = earlier.then(() => promise);
    try {
      await abortable(earlier, signal);
    } catch (error) {
      endTurn();
      throw error;
    }
    return endTurn;
  }

  #explain(error: unknown, command: SidecarCommand): unknown {
    if (error instanceof CommandFailed) {
      this.#log.warn(
        { command: command.type, reason: error.reason, sidecarMessage: error.message },
        'a command failed',
      );
      return failure(error, command, this.#name);
    }
    if (!(error instanceof SidecarExited || error instanceof ProtocolBroken)) return error;
    if (this.#stopping.signal.aborted) return interrupted(error);
    this.#log.error({ command: command.type }, `a command was lost: ${error.message}`);
    return new ServiceError('sidecar-failed', `${accident(error, this.#name)} The job will be tried again.`, {
      cause: error,
    });
  }
}

function pending<T>(): PromiseWithResolvers<T> {
  const deferred = Promise.withResolvers<T>();
  deferred.promise.catch(() => {}); // Often nobody is waiting.
  return deferred;
}

function accident(error: SidecarExited | ProtocolBroken, name: string): string {
  if (error instanceof ProtocolBroken)
    return `The ${name} gave an answer that makes no sense, and was stopped.`;
  const { exitCode, signal, isForcefullyTerminated } = error;
  const how = signal ?? `exit code ${exitCode}`;
  const hint = signal === 'SIGKILL' && !isForcefullyTerminated ? ' It may have run out of memory.' : '';
  return `The ${name} stopped unexpectedly (${how}).${hint}`;
}

/** The sidecar's own message can name files of this machine: it stays in `cause`, for the log. */
function failure(error: CommandFailed, command: SidecarCommand, name: string): ServiceError {
  const cause = error;
  switch (error.reason) {
    case 'out-of-memory':
      return new ServiceError(
        'out-of-memory',
        `The ${name} ran out of memory, even with its smallest batch. Choose a smaller model, or a machine with more memory.`,
        { cause },
      );
    case 'audio-unreadable':
      return new ServiceError(
        'media-unreadable',
        'The audio that was decoded from the media cannot be read. Check that the file plays, then upload it again.',
        { cause },
      );
    case 'model-not-available':
      return new ServiceError(
        'model-not-available',
        `${missingModel(command)} Its operator finds the reason in the log.`,
        {
          cause,
        },
      );
    default:
      return new ServiceError(
        'sidecar-failed',
        `The ${name} failed with an error of its own. It has been logged.`,
        {
          cause,
        },
      );
  }
}

function missingModel(command: SidecarCommand): string {
  if ('model' in command) return `The model ${command.model} cannot be loaded on this service.`;
  if (command.type === 'align')
    return `The alignment model for ${command.language} cannot be loaded on this service.`;
  return `A model for ${command.type} cannot be loaded on this service.`;
}

function hasMissedCancellation(death: unknown): boolean {
  return death instanceof SidecarExited && death.hasMissedCancellation;
}

function refusal(death: SidecarRefused, name: string): Unavailability {
  const reasons: Record<FailureReason, string> = {
    'out-of-memory':
      'its model does not fit into memory; a smaller one (WHISPER_MODEL) or a larger machine helps',
    'model-not-available': 'one of its models is missing or cannot be read',
    'audio-unreadable': 'it failed while starting',
    internal: 'it failed while starting',
    canceled: 'it was stopped while starting',
  };
  const what = `The ${name} cannot start: ${reasons[death.reason]}.`;
  const error = new ServiceError(
    'sidecar-unavailable',
    `${what} The log of the service says more; once that is put right, start the service again.`,
    { cause: death },
  );
  return { error, reason: `${what} It says: ${death.message}`, isFinal: true };
}

function exhaustion(cause: unknown, name: string): Unavailability {
  const what = `The ${name} stopped again and again and is not restarted for now.`;
  const error = new ServiceError(
    'sidecar-unavailable',
    `${what} The log of the service says why. Try again in a few minutes.`,
    { cause },
  );
  return { error, reason: `${what} The last time, ${lastWords(cause)}`, isFinal: false };
}

function lastWords(death: unknown): string {
  if (!(death instanceof SidecarExited)) return death instanceof Error ? death.message : String(death);
  const last = death.stderrTail.trimEnd().split('\n').at(-1);
  return last ? `${death.message}: ${last}` : `${death.message}.`;
}

function interrupted(cause?: unknown): ServiceError {
  return new ServiceError('interrupted', 'The service is shutting down. The work goes on when it is back.', {
    cause,
  });
}
