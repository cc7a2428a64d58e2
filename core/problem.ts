/**
 * Everything that can go wrong and that a user can act on, in one table. The API answers with it (RFC 9457),
 * a failed job stores it, the command line prints it: a client meets one kind of error.
 * `retry` says whether the same work can succeed when tried again without anybody changing anything.
 * docs/errors.md has a heading per slug; a test compares both ways.
 */
export const PROBLEMS = {
  // Requests
  'invalid-request': { status: 400, title: 'The request cannot be understood', retry: false },
  unauthorized: { status: 401, title: 'No valid API key was given', retry: false },
  'not-found': { status: 404, title: 'There is nothing here', retry: false },
  'not-finished': { status: 409, title: 'The transcription is not finished', retry: false },
  'not-retryable': { status: 409, title: 'There is nothing to retry', retry: false },
  'media-too-large': { status: 413, title: 'The media file is too large', retry: false },
  'media-type-not-supported': { status: 415, title: 'This is not a media type', retry: false },
  'range-not-satisfiable': { status: 416, title: 'The requested range lies outside the file', retry: false },
  'invalid-option': { status: 422, title: 'An option is not valid', retry: false },
  'not-supported': { status: 422, title: 'This is not supported', retry: false },
  'model-not-available': { status: 422, title: 'The model is not available', retry: false },
  'translation-not-available': { status: 422, title: 'The model cannot translate', retry: false },
  'language-not-available': { status: 422, title: 'The model does not know the language', retry: false },
  'option-not-available': { status: 422, title: 'The model does not have this option', retry: false },
  'diarization-not-configured': { status: 422, title: 'Speaker diarization is not configured', retry: false },
  'idempotency-mismatch': {
    status: 422,
    title: 'The idempotency key was used with another request',
    retry: false,
  },
  // Uploads and other sources
  'upload-unfinished': { status: 409, title: 'The upload is not finished', retry: false },
  'upload-conflict': { status: 409, title: 'The upload is somewhere else', retry: true },
  'upload-locked': { status: 423, title: 'The upload is in use', retry: true },
  'upload-version-not-supported': {
    status: 412,
    title: 'This version of the upload protocol is not supported',
    retry: false,
  },
  'upload-gone': { status: 410, title: 'The upload is no longer there', retry: false },
  'link-refused': { status: 422, title: 'The link is not allowed', retry: false },
  'link-failed': { status: 422, title: 'The link does not lead to a recording', retry: false },
  'link-unreachable': { status: 502, title: 'The link could not be fetched', retry: true },
  'gcs-source-refused': { status: 422, title: 'The object cannot be read', retry: false },
  'upload-interrupted': { status: 400, title: 'The upload ended before the file did', retry: true },
  // Media
  'media-empty': { status: 422, title: 'The media file is empty', retry: false },
  'media-unreadable': { status: 422, title: 'The media file cannot be decoded', retry: false },
  'media-without-audio': { status: 422, title: 'The media file has no audio', retry: false },
  'media-too-short': { status: 422, title: 'The audio is too short to transcribe', retry: false },
  'decode-limit-exceeded': { status: 422, title: 'Decoding the media took too much', retry: false },
  // Work
  'backend-refused': { status: 500, title: 'No backend could be started', retry: true },
  'no-backend': { status: 422, title: 'No backend takes such a recording', retry: false },
  'voxtral-unavailable': { status: 503, title: 'Mistral’s API does not answer', retry: true },
  'voxtral-not-authorized': { status: 500, title: 'Mistral’s API does not accept the key', retry: true },
  'voxtral-misconfigured': { status: 500, title: 'Mistral’s API is not as configured', retry: true },
  'voxtral-refused': { status: 422, title: 'Mistral’s API refuses the recording', retry: false },
  'spend-limit-reached': { status: 429, title: 'No more may be spent today', retry: true },
  'sidecar-unavailable': { status: 503, title: 'The transcriber is not ready', retry: true },
  'sidecar-failed': { status: 500, title: 'The transcriber failed', retry: true },
  'sidecar-stalled': { status: 500, title: 'The transcriber made no progress', retry: true },
  'out-of-memory': { status: 500, title: 'The transcriber ran out of memory', retry: true },
  'storage-full': { status: 507, title: 'There is no space left to store this', retry: true },
  'media-gone': { status: 500, title: 'The stored media is gone', retry: false },
  'no-progress': { status: 500, title: 'The job made no progress', retry: true },
  'too-many-attempts': { status: 500, title: 'The job was interrupted too often', retry: true },
  interrupted: { status: 503, title: 'The work was interrupted', retry: true },
  internal: { status: 500, title: 'Something went wrong on our side', retry: true },
} as const satisfies Record<string, { status: number; title: string; retry: boolean }>;

export type ProblemSlug = keyof typeof PROBLEMS;

export const PROBLEM_SLUGS = Object.keys(PROBLEMS) as ProblemSlug[];

/** RFC 9457, as answered and as stored in a failed job. Extensions (such as `field`) stand beside the members. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  [extension: string]: unknown;
}

/** A failure that was foreseen: it has a slug, and its detail says what to do next. Safe to show to the user. */
export class ServiceError extends Error {
  override readonly name = 'ServiceError';
  readonly slug: ProblemSlug;
  readonly extensions: Readonly<Record<string, unknown>>;

  constructor(
    slug: ProblemSlug,
    detail: string,
    { cause, extensions = {} }: { cause?: unknown; extensions?: Record<string, unknown> } = {},
  ) {
    super(detail, cause === undefined ? undefined : { cause });
    this.slug = slug;
    this.extensions = extensions;
  }

  get retry(): boolean {
    return PROBLEMS[this.slug].retry;
  }
}

/** A name, not an address: docs/errors.md says what each means. */
const PROBLEM_URN = 'urn:zeroscribe:problem:';

/** Anything not foreseen becomes `internal` and shows nothing of itself: log it whole where it is caught. */
export function toServiceError(error: unknown): ServiceError {
  if (error instanceof ServiceError) return error;
  if (isDiskFull(error)) {
    return new ServiceError(
      'storage-full',
      'The disk of the service is full. Nothing was kept. Free some space, then try again.',
      { cause: error },
    );
  }
  return new ServiceError('internal', 'An unexpected error occurred. It has been logged; try again later.', {
    cause: error,
  });
}

export function toProblem(error: ServiceError): Problem {
  const { status, title } = PROBLEMS[error.slug];
  return {
    type: `${PROBLEM_URN}${error.slug}`,
    title,
    status,
    detail: error.message,
    ...error.extensions,
  };
}

/** Whether the same work can succeed when it is tried again. */
export function isPassing(problem: Problem): boolean {
  const slug = problemSlug(problem);
  return Object.hasOwn(PROBLEMS, slug) && PROBLEMS[slug as ProblemSlug].retry;
}

export function problemSlug(problem: Problem): string {
  return problem.type.slice(PROBLEM_URN.length);
}

const SQLITE_FULL = 13;

function isDiskFull(error: unknown): boolean {
  if (typeof error !== 'object' || error === null || !('code' in error)) return false;
  if (error.code === 'ERR_SQLITE_ERROR') return 'errcode' in error && error.errcode === SQLITE_FULL;
  return error.code === 'ENOSPC' || error.code === 'EDQUOT';
}
