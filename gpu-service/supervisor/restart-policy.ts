export interface RestartPolicy {
  /** How long each restart within the window waits. What still dies then will not be healed by one more. */
  delaysMs: readonly number[];
  windowMs: number;
}

export const RESTART_POLICY: RestartPolicy = { delaysMs: [0, 1_000, 4_000], windowMs: 3 * 60_000 };

export interface NextRestart {
  delayMs: number;
  /** There were as many as the window takes: the delay is until it has room again. */
  isExhausted: boolean;
}

/** Given when the earlier restarts were, in their order. */
export function nextRestart(
  restartsMs: readonly number[],
  nowMs: number,
  { delaysMs, windowMs }: RestartPolicy = RESTART_POLICY,
): NextRestart {
  const recentMs = restartsMs.filter((restartMs) => restartMs > nowMs - windowMs);
  const delayMs = delaysMs[recentMs.length];
  if (delayMs !== undefined) return { delayMs, isExhausted: false };
  const leavesNextMs = recentMs.at(-delaysMs.length) ?? nowMs;
  return { delayMs: leavesNextMs + windowMs - nowMs, isExhausted: true };
}
