import type { Readiness } from '../../core/readiness.ts';
import { spanSeconds } from '../../core/to-the-millisecond.ts';
import type { Loadable, Role, SidecarCommand, SidecarResult } from './protocol.ts';
import type { SidecarStart } from './sidecar-start.ts';
import {
  type SupervisedRunOptions,
  SupervisedSidecar,
  type SupervisedSidecarOptions,
  type SupervisedState,
} from './supervised-sidecar.ts';

export interface SidecarsOptions extends Omit<SupervisedSidecarOptions, 'command'> {
  commandOf(role: Role): readonly string[];
  /** Jobs will need the annotator: it starts as soon as the recognizer is ready, and not only when one does. */
  expectsAnnotations: boolean;
}

/**
 * The two processes of the sidecar as a job sees them: each command goes to the one that can do it, and both can work
 * at the same time. When one dies, the other's work goes on. A job can begin once the recognizer is ready.
 */
export class Sidecars {
  readonly recognizer: SupervisedSidecar;
  readonly annotator: SupervisedSidecar;
  readonly #expectsAnnotations: boolean;

  constructor({ commandOf, expectsAnnotations, onUnavailable, ...options }: SidecarsOptions) {
    const supervise = (role: Role) => ({
      ...options,
      command: commandOf(role),
      log: options.log.child({ role }),
    });
    this.recognizer = new SupervisedSidecar({
      ...supervise('recognizer'),
      ...(onUnavailable === undefined ? {} : { onUnavailable }),
    });
    // Without it there is still the text, so it is no reason for a service to end; and jobs that come while it is not
    // started again, because an earlier one has killed it too often, are not to lose their words and speakers for that.
    this.annotator = new SupervisedSidecar({
      ...supervise('annotator'),
      name: 'annotator',
      isWorthWaitingFor: true,
    });
    this.#expectsAnnotations = expectsAnnotations;
  }

  /** Begins to load the models. The annotator comes second, because the two would only slow each other down. */
  start(): void {
    this.recognizer.start();
    if (!this.#expectsAnnotations) return;
    this.recognizer.whenReady().then(
      () => this.annotator.start(),
      () => {}, // It is known to those who wait for the recognizer.
    );
  }

  /** The recognizer's. */
  get state(): SupervisedState {
    return this.recognizer.state;
  }

  /** For /health/ready: whether a job can be worked on now, and which of its stages would have to wait. */
  readiness(): Readiness {
    const stateOf = (sidecar: SupervisedSidecar) => (isReady(sidecar) ? 'ready' : sidecar.state);
    const annotations = stateOf(this.annotator);
    return {
      isReady: isReady(this.recognizer),
      detail: `The transcriber is ${this.recognizer.state}.`,
      stages: { transcribe: stateOf(this.recognizer), align: annotations, diarize: annotations },
    };
  }

  /** See SupervisedSidecar.whenReady; of the recognizer. */
  whenReady(signal?: AbortSignal): Promise<SidecarStart> {
    return this.recognizer.whenReady(signal);
  }

  /** See SupervisedSidecar.run. Whoever waits for the annotator to start is told how long, as of a model. */
  async run<C extends SidecarCommand>(
    command: C,
    options: SupervisedRunOptions<C['type']> = {},
  ): Promise<SidecarResult<C['type']>> {
    const needs = annotationOf(command);
    if (needs === undefined) return this.recognizer.run(command, options);
    if (isReady(this.annotator)) return this.annotator.run(command, options);
    const { signal, waitFor = (other) => other } = options;
    const fromMs = performance.now();
    await waitFor(this.annotator.whenReady(signal));
    const waitedMs = performance.now() - fromMs;
    return this.annotator.run(command, {
      ...options,
      onLoads: (loads) =>
        options.onLoads?.({ ...loads, [needs]: spanSeconds(waitedMs + (loads[needs] ?? 0) * 1_000) }),
    });
  }

  /** See SupervisedSidecar.stop; both at once. */
  async stop(timeoutMs: number): Promise<void> {
    await Promise.all([this.recognizer.stop(timeoutMs), this.annotator.stop(timeoutMs)]);
  }
}

function isReady({ state }: SupervisedSidecar): boolean {
  return state === 'ready' || state === 'busy';
}

/** What the annotator is needed for, if it is. */
function annotationOf(command: SidecarCommand): Loadable | undefined {
  switch (command.type) {
    case 'align':
      return 'alignment';
    case 'diarize':
      return 'diarization';
    case 'detect_speech':
      return command.method === 'pyannote' ? 'speech' : undefined;
    default:
      return undefined;
  }
}
