import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';

export type Delivery =
  | { kind: 'response'; status: number; retryAfterMs: number | null }
  /** Nobody answered in time; the connection was dropped. */
  | { kind: 'deadline' }
  /** No connection, or it broke. */
  | { kind: 'unreachable' };

export interface Request {
  url: string;
  method: string;
  headers: Record<string, string>;
  body: Buffer | undefined;
}

/** One HTTP request. A redirect is an answer like any other: the real service was seen not to follow it. */
export function deliver(
  { url, method, headers, body }: Request,
  { deadlineMs, signal }: { deadlineMs: number; signal: AbortSignal },
): Promise<Delivery> {
  return new Promise((resolve) => {
    const send = url.startsWith('https:') ? httpsRequest : httpRequest;
    // No pool: a broken connection must not be one that somebody else had left open.
    const request = send(url, { method, headers, agent: false, signal });
    const timer = setTimeout(() => {
      resolve({ kind: 'deadline' });
      request.destroy();
    }, deadlineMs);
    const settle = (delivery: Delivery) => {
      clearTimeout(timer);
      resolve(delivery);
    };
    request.on('response', (response) => {
      response.resume();
      settle({ kind: 'response', status: response.statusCode ?? 0, retryAfterMs: retryAfterMs(response) });
    });
    request.on('error', () => settle({ kind: 'unreachable' }));
    request.end(body);
  });
}

function retryAfterMs({ headers }: IncomingMessage): number | null {
  const value = headers['retry-after'];
  if (value === undefined) return null;
  const ms = /^\d+$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - Date.now();
  return Number.isNaN(ms) ? null : Math.max(0, ms);
}
