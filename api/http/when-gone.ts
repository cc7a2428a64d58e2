import type { Response } from 'express';
import { ServiceError } from '../../core/problem.ts';

/** Aborts when the client has gone, or has its answer. */
export function whenGone(res: Response): AbortSignal {
  const controller = new AbortController();
  const abort = () =>
    controller.abort(new ServiceError('upload-interrupted', 'The client has closed the connection.'));
  if (res.destroyed) abort();
  res.once('close', abort);
  return controller.signal;
}
