import { setTimeout as sleep } from 'node:timers/promises';
import type { Sidecars } from './supervisor/sidecars.ts';

/** Of the ten seconds that platforms give. */
export interface StopBudget {
  /** For the sidecar to end its batch, which then is stored. */
  batchMs: number;
  /** Then for the sidecar to end. */
  sidecarMs: number;
  /** Then for the handlers that have waited for it to give their jobs back. */
  giveBackMs: number;
}

/** Stops what brings tasks and then, whether or not it has answered by then, the sidecar that their handlers wait for. */
export async function stopWorker(
  sidecars: Sidecars,
  stopTriggers: (timeoutMs: number) => Promise<unknown>,
  { batchMs, sidecarMs, giveBackMs }: StopBudget,
): Promise<void> {
  const handlers = stopTriggers(batchMs + sidecarMs + giveBackMs);
  const early = new AbortController();
  await Promise.race([handlers, sleep(batchMs, undefined, { signal: early.signal }).catch(() => {})]);
  early.abort();
  await Promise.all([handlers, sidecars.stop(sidecarMs)]);
}
