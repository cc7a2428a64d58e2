/** How long a task waits before it is tried again. The names and the arithmetic are those of Cloud Tasks. */
export interface Backoff {
  minMs: number;
  maxMs: number;
  /** So many times the wait doubles; from then on it grows by the same step. */
  maxDoublings: number;
}

/** Before the `retry`-th try again, counted from 1. */
export function backoffMs(retry: number, { minMs, maxMs, maxDoublings }: Backoff): number {
  const doubled = minMs * 2 ** Math.min(retry - 1, maxDoublings);
  return Math.min(maxMs, doubled * Math.max(1, retry - maxDoublings));
}
