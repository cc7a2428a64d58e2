/** How a platform counts the seconds of an instance. */
export interface Metering {
  usdPerSecond: number;
  /** What an instance is billed for at least. */
  minimumSeconds: number;
  /** Seconds are rounded up to this. */
  stepSeconds: number;
}

/** Cloud Run's with a GPU: by 100 ms, and a minute at least. */
export const CLOUD_RUN_METERING = { minimumSeconds: 60, stepSeconds: 0.1 } as const;

/** How long an instance is billed that existed for `seconds`. */
export function billedSeconds(
  seconds: number,
  { minimumSeconds, stepSeconds }: Omit<Metering, 'usdPerSecond'>,
): number {
  // Rounding errors of a sum are no further step.
  const steps = Math.ceil(seconds / stepSeconds - 1e-6);
  return Math.max(minimumSeconds, steps * stepSeconds);
}

/**
 * Shares what an instance cost among the jobs it did, by the seconds that each kept it: its start and its idle tail
 * with them, once. The shares add up to the bill, also after rounding errors.
 */
export function attribute(billUsd: number, busySeconds: readonly number[]): number[] {
  const all = busySeconds.reduce((sum, seconds) => sum + seconds, 0);
  const shares = busySeconds.map((seconds) =>
    all > 0 ? billUsd * (seconds / all) : billUsd / busySeconds.length,
  );
  const difference = billUsd - shares.reduce((sum, share) => sum + share, 0);
  const largest = shares.reduce((most, share, i) => (share > (shares[most] ?? 0) ? i : most), 0);
  return shares.map((share, i) => (i === largest ? share + difference : share));
}
