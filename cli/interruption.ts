import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  /** As a shell reports a process that the signal ended: 130 for Ctrl-C. */
  readonly exitCode: number;

  constructor(signal: (typeof SIGNALS)[number]) {
    super(`Interrupted by ${signal}.`);
    this.exitCode = 128 + constants.signals[signal];
  }
}

/**
 * Aborts with an `Interrupted` at the first signal, so that the command can put things in order. A second signal
 * more than half a second later ends the process at once: npm passes on a Ctrl-C that the terminal has already sent.
 */
export function interruption(): AbortSignal {
  const controller = new AbortController();
  let firstAtMs: number | undefined;
  for (const name of SIGNALS) {
    process.on(name, () => {
      const interrupted = new Interrupted(name);
      firstAtMs ??= performance.now();
      if (performance.now() - firstAtMs > 500) process.exit(interrupted.exitCode);
      controller.abort(interrupted);
    });
  }
  return controller.signal;
}
