import { randomUUID } from 'node:crypto';
import type { RequestHandler, Response } from 'express';
import type { Logger } from '../../core/log.ts';

/**
 * Gives the request an id, which the answer carries too, and writes one line about it when it is over. Neither the
 * query (links are signed there) nor headers nor bodies are written.
 */
export function identifyRequest(log: Logger): RequestHandler {
  return (req, res, next) => {
    const id = randomUUID();
    const startedMs = performance.now();
    const { method, path } = req;
    res.locals.requestId = id;
    res.set('X-Request-Id', id);
    res.once('close', () => {
      const line = {
        request_id: id,
        method,
        path: path.slice(0, 200),
        // Until it is sent it means nothing: a client that broke off has had none.
        status: res.headersSent ? res.statusCode : null,
        owner: res.locals.owner,
        duration_ms: Math.round(performance.now() - startedMs),
        is_aborted: !res.writableFinished,
      };
      // Probes come every few seconds and say nothing.
      if (path.startsWith('/health/')) log.debug(line, 'request');
      else log.info(line, 'request');
    });
    next();
  };
}

export function requestIdOf(res: Response): string {
  return String(res.locals.requestId);
}
