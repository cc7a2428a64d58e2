import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';

/** The name of the mark that a service sets once it answers and takes tasks, for whoever asks where the time of its start went. */
export const LISTENING = 'listening';

/** For the request to arrive. The answer takes as long as the work. */
const RECEIVE_TIMEOUT_MS = 60_000;
/** Below the ten minutes after which networks forget a connection that is silent. */
const TCP_KEEPALIVE_MS = 60_000;

/** For the startup probe of the platform. */
const LIVE = '/health/live';

/** Says at once that it lives, and takes calls before what answers them is loaded; they wait for it. */
export class EarlyServer {
  readonly server: Server;
  readonly #answers = Promise.withResolvers<RequestListener>();

  private constructor() {
    this.server = createServer(
      { requestTimeout: RECEIVE_TIMEOUT_MS, keepAlive: true, keepAliveInitialDelay: TCP_KEEPALIVE_MS },
      async (req, res) => {
        if ((req.method === 'GET' || req.method === 'HEAD') && req.url?.split('?')[0] === LIVE) {
          res.writeHead(200, { 'Content-Type': 'application/json; charset=utf-8' }).end('{"status":"ok"}');
          return;
        }
        const answer = await this.#answers.promise;
        // Who has left meanwhile comes again; what is left of the request would only look like a broken one.
        if (!res.destroyed) answer(req, res);
      },
    );
  }

  /** @throws when the port is taken, or may not be used */
  static async listen({ host, port }: { host: string; port: number }): Promise<EarlyServer> {
    const early = new EarlyServer();
    early.server.listen(port, host);
    await once(early.server, 'listening');
    performance.mark(LISTENING);
    return early;
  }

  /** From now on, and what has waited too. */
  answerWith(listener: RequestListener): void {
    this.#answers.resolve(listener);
  }
}
