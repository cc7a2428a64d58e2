import { toMilliseconds } from './python-text.ts';

/** 01:02:03,456 */
export function srtTimestamp(seconds: number): string {
  const { hours, rest, milliseconds } = parts(seconds);
  return `${hours}:${rest},${milliseconds}`;
}

/** 02:03.456, with hours only where there are any. */
export function vttTimestamp(seconds: number): string {
  const { hours, rest, milliseconds } = parts(seconds);
  return hours === '00' ? `${rest}.${milliseconds}` : `${hours}:${rest}.${milliseconds}`;
}

function parts(seconds: number) {
  const total = toMilliseconds(seconds);
  const digits = (value: number, count: number) => String(Math.floor(value)).padStart(count, '0');
  return {
    hours: digits(total / 3_600_000, 2),
    rest: `${digits((total / 60_000) % 60, 2)}:${digits((total / 1000) % 60, 2)}`,
    milliseconds: digits(total % 1000, 3),
  };
}
