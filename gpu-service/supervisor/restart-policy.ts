/** Restarts within WINDOW_MS, and how long each waits. What still dies then will not be healed by one more. */
const DELAYS_MS = [0, 1_000, 4_000];
const WINDOW_MS = 3 * 60_000;

/** How long to wait before the next restart, given when the earlier ones were; undefined: not now. */
export function restartDelayMs(restartsMs: readonly number[], nowMs: number): number | undefined {
  return DELAYS_MS[restartsMs.filter((restartMs) => restartMs > nowMs - WINDOW_MS).length];
}
