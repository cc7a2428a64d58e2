/** Of milliseconds. The clocks of two machines can make a span negative, which none is. */
export function spanSeconds(ms: number): number {
  return toTheMillisecond(Math.max(0, ms) / 1_000);
}

/** As seconds are written down: to three decimals. */
export function toTheMillisecond(seconds: number): number {
  return Math.round(seconds * 1_000) / 1_000;
}
