import { spanSeconds } from '../../core/to-the-millisecond.ts';
import type { Ready } from './sidecar.ts';

/** How the process that runs now came to be ready. Milliseconds are those of `performance.now()`. */
export interface SidecarStart extends Ready {
  spawnedMs: number;
  readyMs: number;
  /** It is the process that the service started with, and not there in place of one that died. */
  isFirst: boolean;
  /** It has been given no command yet. */
  isUnused: boolean;
}

/** One after the other, from the start of the service's process; of a process that replaces another, from its own. */
export function startParts({ spawnedMs, readyMs, isFirst, ...ready }: Omit<SidecarStart, 'isUnused'>) {
  return {
    spawn_seconds: isFirst ? spanSeconds(spawnedMs) : null,
    // The interpreter, and the pipes: what is left when the sidecar has told what it did.
    python_seconds: spanSeconds(readyMs - spawnedMs - ready.load_seconds * 1_000),
    imports_seconds: ready.imports_seconds,
    device_seconds: ready.device_seconds,
    model_seconds: ready.model_seconds,
    ready_seconds: spanSeconds(readyMs - (isFirst ? 0 : spawnedMs)),
  };
}
