/** How Google's JSON writes what is not JSON: https://protobuf.dev/programming-guides/json/ */

const HTTP_STATUS = {
  INVALID_ARGUMENT: 400,
  FAILED_PRECONDITION: 400,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  UNIMPLEMENTED: 501,
  UNAVAILABLE: 503,
} as const;

export class ApiError extends Error {
  readonly status: keyof typeof HTTP_STATUS;

  constructor(status: keyof typeof HTTP_STATUS, message: string) {
    super(message);
    this.status = status;
  }

  get code(): number {
    return HTTP_STATUS[this.status];
  }
}

export function parseDurationMs(text: string): number {
  const seconds = /^(-?\d+(?:\.\d{1,9})?)s$/.exec(text)?.[1];
  if (seconds === undefined) throw new ApiError('INVALID_ARGUMENT', `Illegal duration format: ${text}`);
  return Number(seconds) * 1_000;
}

export const formatDuration = (ms: number): string => `${Math.round(ms * 1_000) / 1_000_000}s`;

export function parseTimestampMs(text: string): number {
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) throw new ApiError('INVALID_ARGUMENT', `Illegal timestamp format: ${text}`);
  return ms;
}

export const formatTimestamp = (ms: number): string => new Date(ms).toISOString();

export const HTTP_METHODS = [
  'HTTP_METHOD_UNSPECIFIED',
  'POST',
  'GET',
  'HEAD',
  'PUT',
  'DELETE',
  'PATCH',
  'OPTIONS',
];
export const QUEUE_STATES = ['STATE_UNSPECIFIED', 'RUNNING', 'PAUSED', 'DISABLED'];
export const VIEWS = ['VIEW_UNSPECIFIED', 'BASIC', 'FULL'];

/** A request may give the name or the number. */
export function parseEnum(names: readonly string[], value: unknown): string | undefined {
  if (value === undefined) return undefined;
  const name = names.find((candidate, number) => value === candidate || Number(value) === number);
  if (name === undefined) throw new ApiError('INVALID_ARGUMENT', `Invalid value: ${String(value)}`);
  return name;
}

/** An answer gives the number when the request said `$alt=json;enum-encoding=int`, as Google's clients do. */
export function formatEnum(names: readonly string[], name: string, isNumeric: boolean): string | number {
  return isNumeric ? names.indexOf(name) : name;
}
