import type { RequestHandler } from 'express';
import type { ApiDependencies } from '../dependencies.ts';

/** The process answers. Asks nothing else, so that a slow store does not get the service restarted. */
export const live: RequestHandler = (_req, res) => {
  res.json({ status: 'ok' });
};

export function ready({ readiness }: Pick<ApiDependencies, 'readiness'>): RequestHandler {
  return async (_req, res) => {
    const { isReady, ...more } = await readiness();
    res.status(isReady ? 200 : 503).json({ status: isReady ? 'ready' : 'not-ready', ...more });
  };
}
