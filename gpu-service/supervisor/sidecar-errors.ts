import type { FailureReason } from './protocol.ts';

/** Why the sidecar process is gone. `stderrTail` usually ends with the Python traceback: for the log, never for a user. */
export class SidecarExited extends Error {
  override readonly name = 'SidecarExited';
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderrTail: string;
  /** The SIGKILL was ours. One that was not is most often the kernel's, out of memory. */
  readonly isForcefullyTerminated: boolean;
  /** It was killed because it took too long to answer a cancellation, as one long batch does: it did nothing wrong. */
  readonly hasMissedCancellation: boolean;

  constructor(exit: {
    exitCode: number | null;
    signal: NodeJS.Signals | null;
    stderrTail: string;
    isForcefullyTerminated: boolean;
    hasMissedCancellation: boolean;
  }) {
    super(
      exit.signal === null
        ? `the sidecar exited with code ${exit.exitCode}`
        : `the sidecar was ended by ${exit.signal}`,
    );
    this.exitCode = exit.exitCode;
    this.signal = exit.signal;
    this.stderrTail = exit.stderrTail;
    this.isForcefullyTerminated = exit.isForcefullyTerminated;
    this.hasMissedCancellation = exit.hasMissedCancellation;
  }
}

/** It cannot start, and starting it again will not help: a model is missing or does not fit. */
export class SidecarRefused extends Error {
  override readonly name = 'SidecarRefused';
  readonly reason: FailureReason;

  constructor(reason: FailureReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** It said something that is not in the protocol. It was killed: what else it says cannot be trusted. */
export class ProtocolBroken extends Error {
  override readonly name = 'ProtocolBroken';
}

/** The answer of a healthy sidecar to a command it could not do. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed';
  readonly reason: FailureReason;

  constructor(reason: FailureReason, message: string) {
    super(message);
    this.reason = reason;
  }
}
