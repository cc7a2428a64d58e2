import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ConfigError } from '../core/environment.ts';
import { addHttp2Front } from './http2-front.ts';

/** A connection on which nothing moves for so long is given up: longer than any wait of `Prefer`. */
const IDLE_TIMEOUT_MS = 120_000;

export interface Listening {
  url: string;
  port: number;
  /** Takes no more requests, lets those that run finish for `graceMs`, then breaks them off. */
  close(graceMs: number): Promise<void>;
}

/** @throws {ConfigError} when the port is taken */
export async function listen(
  app: RequestListener,
  { host, port, http2 = false }: { host: string; port: number; http2?: boolean },
): Promise<Listening> {
  // Node ends every request after five minutes; an upload takes as long as it takes while bytes arrive.
  const server = createServer({ requestTimeout: 0, headersTimeout: 60_000 }, app);
  server.setTimeout(IDLE_TIMEOUT_MS);
  const front = http2 ? addHttp2Front(server, { idleTimeoutMs: IDLE_TIMEOUT_MS }) : undefined;
  server.listen(port, host);
  await once(server, 'listening').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EADDRINUSE') throw error;
    throw new ConfigError(
      `Port ${port} is in use already. Choose another with PORT or --port; 0 takes a free one.`,
    );
  });
  const address = server.address() as AddressInfo;
  const shownHost = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return {
    url: `http://${shownHost}:${address.port}`,
    port: address.port,
    async close(graceMs) {
      const closed = once(server, 'close');
      server.close();
      front?.close();
      const timer = setTimeout(() => {
        server.closeAllConnections();
        front?.destroy();
      }, graceMs);
      await closed;
      clearTimeout(timer);
    },
  };
}
