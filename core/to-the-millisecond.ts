/** As seconds are written down: to three decimals. */
export function toTheMillisecond(seconds: number): number {
  return Math.round(seconds * 1_000) / 1_000;
}
