import type { SidecarStart } from './supervised-sidecar.ts';

/** One after the other, from the start of the service's process; of a process that replaces another, from its own. */
export function startParts({ spawnedMs, readyMs, isFirst, ...ready }: Omit<SidecarStart, 'isUnused'>) {
  return {
    spawn_seconds: isFirst ? seconds(spawnedMs) : null,
    // The interpreter, and the pipes: what is left when the sidecar has told what it did.
    python_seconds: seconds(readyMs - spawnedMs - ready.load_seconds * 1_000),
    imports_seconds: ready.imports_seconds,
    device_seconds: ready.device_seconds,
    model_seconds: ready.model_seconds,
    ready_seconds: seconds(readyMs - (isFirst ? 0 : spawnedMs)),
  };
}

/** Rounded to the millisecond. The clocks of two machines can make a span negative, which none is. */
export function seconds(ms: number): number {
  return Math.round(Math.max(0, ms)) / 1_000;
}
