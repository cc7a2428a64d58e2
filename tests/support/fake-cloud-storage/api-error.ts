/** A refusal in the shape that Google's JSON APIs give it. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }

  toJSON(): object {
    const domain = this.reason === 'rateLimitExceeded' ? 'usageLimits' : 'global';
    const { status: code, message, reason } = this;
    return { error: { code, message, errors: [{ message, domain, reason }] } };
  }
}

export const invalid = (message: string): ApiError => new ApiError(400, 'invalid', message);
export const noSuchObject = (bucket: string, name: string): ApiError =>
  new ApiError(404, 'notFound', `No such object: ${bucket}/${name}`);
export const conditionNotMet = (): ApiError =>
  new ApiError(412, 'conditionNotMet', 'At least one of the pre-conditions you specified did not hold.');
/** An answer, not an error, but it too ends what was asked. */
export const notModified = (): ApiError => new ApiError(304, 'notModified', '');

/** What an injected refusal says. */
export function refusal(status: number): ApiError {
  if (status === 429) {
    return new ApiError(429, 'rateLimitExceeded', 'The rate limit for this operation was exceeded.');
  }
  return new ApiError(
    status,
    status >= 500 ? 'backendError' : 'forbidden',
    'We encountered an internal error. Please try again.',
  );
}
