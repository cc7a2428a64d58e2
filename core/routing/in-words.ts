/** `2 h 5 min`, `90 s`. */
export function lengthInWords(seconds: number): string {
  if (seconds <= 120) return `${Math.round(seconds * 10) / 10} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const rest = minutes % 60;
  return `${Math.floor(minutes / 60)} h${rest === 0 ? '' : ` ${rest} min`}`;
}

/** `$0.06`, and of less than a cent `$0.0015`. */
export function usdInWords(usd: number): string {
  return usd === 0 ? '$0' : `$${usd < 0.0995 ? usd.toPrecision(2) : usd.toFixed(2)}`;
}
