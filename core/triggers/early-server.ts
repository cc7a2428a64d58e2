import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';

/** The name of the mark that a service sets once it takes tasks, for whoever asks where the time of its start went. */
export const LISTENING = 'listening';

/** For the request to arrive. The answer takes as long as the work. */
const RECEIVE_TIMEOUT_MS = 60_000;
/** Below the ten minutes after which networks forget a connection that is silent. */
const TCP_KEEPALIVE_MS = 60_000;

/** Takes calls before what answers them is loaded; they wait for it. */
export class EarlyServer {
  readonly server: Server;
  readonly #answers = Promise.withResolvers<RequestListener>();

  private constructor() {
    this.server = createServer(
      { requestTimeout: RECEIVE_TIMEOUT_MS, keepAlive: true, keepAliveInitialDelay: TCP_KEEPALIVE_MS },
      async (req, res) => (await this.#answers.promise)(req, res),
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
