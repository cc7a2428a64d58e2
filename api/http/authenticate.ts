import type { Request, RequestHandler, Response } from 'express';
import { isLoopback } from '../../core/loopback.ts';
import { ServiceError } from '../../core/problem.ts';
import { type ApiKeys, ownerOfKey } from './api-keys.ts';

/** Whose jobs these are when the service runs without keys, on loopback. */
const LOCAL_OWNER = 'local';

/** After this, `ownerOf(res)` says whose jobs the request may see. */
export function authenticate(keys: ApiKeys, publicUrl: string | undefined): RequestHandler {
  return (req, res, next) => {
    res.locals.owner = keys.length === 0 ? localOwner(req, publicUrl) : keyOwner(req, res, keys);
    next();
  };
}

export function ownerOf(res: Response): string {
  const owner: unknown = res.locals.owner;
  if (typeof owner !== 'string') throw new Error('the route is not behind authenticate');
  return owner;
}

function keyOwner(req: Request, res: Response, keys: ApiKeys): string {
  const key = /^Bearer +(\S+) *$/i.exec(req.get('authorization') ?? '')?.[1];
  const owner = key === undefined ? undefined : ownerOfKey(keys, key);
  if (owner !== undefined) return owner;
  res.set('WWW-Authenticate', key === undefined ? 'Bearer' : 'Bearer error="invalid_token"');
  throw new ServiceError(
    'unauthorized',
    key === undefined
      ? 'Send an API key: Authorization: Bearer <key>.'
      : 'The API key is not known. Check it, or ask the operator for one.',
  );
}

/**
 * Without keys, whoever reaches the port may do everything: programs of this machine may, web pages of strangers in
 * its browser may not. Those give themselves away by their origin or, having rebound a name of theirs, by the host.
 */
function localOwner(req: Request, publicUrl: string | undefined): string {
  const host = req.get('host') ?? '';
  const origin = req.get('origin');
  const isOurHost = isLoopback(hostnameOf(`http://${host}`)) || host === hostOf(publicUrl);
  const isForeign = origin !== undefined && hostOf(origin) !== host;
  if (isOurHost && !isForeign && req.get('sec-fetch-site') !== 'cross-site') return LOCAL_OWNER;
  throw new ServiceError(
    'unauthorized',
    'This service runs without API keys, so it answers only programs and pages of its own machine. Its operator can set API_KEYS.',
  );
}

function hostOf(url: string | undefined): string | undefined {
  return url !== undefined && URL.canParse(url) ? new URL(url).host : undefined;
}

function hostnameOf(url: string): string {
  return URL.canParse(url) ? new URL(url).hostname : '';
}
