import { spanSeconds } from '../../core/to-the-millisecond.ts';
import type { SidecarStart } from './supervised-sidecar.ts';

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
