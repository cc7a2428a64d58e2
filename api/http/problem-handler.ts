import type { ErrorRequestHandler, Request, RequestHandler } from 'express';
import type { Logger } from '../../core/log.ts';
import { PROBLEMS, ServiceError, toProblem, toServiceError } from '../../core/problem.ts';
import { requestIdOf } from './identify-request.ts';

/** How long a client that is still sending may go on, so that it finds the answer instead of a broken connection. */
const LINGER_MS = 10_000;

/** The one place where an error becomes an answer (RFC 9457). Must be the last thing the application uses. */
export function problemHandler(log: Logger): ErrorRequestHandler {
  return (error: unknown, req, res, _next) => {
    const failure = isFromExpress(error) ? fromExpress(error) : toServiceError(error);
    const requestId = requestIdOf(res);
    if (PROBLEMS[failure.slug].status >= 500) {
      log.error({ err: failure.cause ?? failure, request_id: requestId }, 'the request failed');
    }
    // Half an answer cannot be taken back; breaking it off at least tells the client.
    if (res.headersSent) {
      res.destroy();
      return;
    }
    const { retry_after_seconds: retryAfter, ...problem } = toProblem(failure);
    if (typeof retryAfter === 'number') res.set('Retry-After', String(retryAfter));
    for (const name of ['Content-Disposition', 'Content-Length', 'ETag', 'Last-Modified', 'Cache-Control']) {
      res.removeHeader(name);
    }
    res
      .status(problem.status)
      .type('application/problem+json')
      .send(JSON.stringify({ ...problem, instance: req.baseUrl + req.path, request_id: requestId }));
    stopReadingSoon(req);
  };
}

export const notFound: RequestHandler = (req) => {
  throw new ServiceError('not-found', `There is no ${req.method} ${req.path.slice(0, 200)} here.`);
};

function stopReadingSoon(req: Request): void {
  if (req.complete) return;
  const timer = setTimeout(() => req.destroy(), LINGER_MS).unref();
  const stop = () => clearTimeout(timer);
  req.once('end', stop).once('close', stop);
}

/** What Express and its body parser throw: an `http-errors` object, whose message may quote the request. */
interface ExpressError extends Error {
  status: number;
  type?: string;
}

function isFromExpress(error: unknown): error is ExpressError {
  if (!(error instanceof Error) || error instanceof ServiceError) return false;
  const { status } = error as Partial<ExpressError>;
  return typeof status === 'number' && status >= 400 && status < 500;
}

function fromExpress(error: ExpressError): ServiceError {
  const detail =
    {
      'entity.parse.failed': 'The body is not valid JSON.',
      'entity.too.large': 'The JSON body is too large.',
      'encoding.unsupported': 'The content encoding of the body is not supported. Send it uncompressed.',
      'charset.unsupported': 'The character set of the body is not supported. Send UTF-8.',
    }[error.type ?? ''] ?? 'The request is malformed. Check its address, headers and body.';
  return new ServiceError('invalid-request', detail, { cause: error });
}
