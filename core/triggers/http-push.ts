import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express, { type ErrorRequestHandler, type Express, type Request, type RequestHandler } from 'express';
import type { Logger } from '../log.ts';
import { TASKS_PATH } from '../queue/cloud-tasks-queue.ts';
import type { Readiness } from '../readiness.ts';
import type { Outcome } from '../tasks/outcome.ts';
import type { TaskPayload, TaskType } from '../tasks/task.ts';
import { readTaskPayload } from '../tasks/task-payload.ts';
import { within } from '../within.ts';
import { EarlyServer } from './early-server.ts';
import type { TaskAuth } from './task-auth.ts';

export type TaskHandler = (payload: TaskPayload, context: { signal: AbortSignal }) => Promise<Outcome>;

export interface HttpPushOptions {
  log: Logger;
  auth: TaskAuth;
  /** What this service does. Tasks of other types are not for it. */
  handlers: Partial<Record<TaskType, TaskHandler>>;
  /** Tasks at a time; more are sent back to the queue. */
  maxConcurrent: number;
  /** Of tasks of these types, which do not count among the others. */
  maxConcurrentOf?: Partial<Record<TaskType, number>>;
  /** What /health/ready says. /health/live, which asks only whether the process answers, EarlyServer has answered. */
  readiness(): Readiness;
}

export interface Listening {
  url: string;
  port: number;
}

/**
 * 429 and 503 would make Cloud Tasks slow down the whole queue, other jobs included, for what concerns one task; 500
 * makes it try this one again after the queue's own backoff.
 */
const TRY_AGAIN = 500;
const SETTLED = 204;

/** As large as Cloud Tasks can make one. */
const MAX_BODY = '1mb';
/** What is left of the time to stop, for answers on their way. */
const FLUSH_MS = 500;

/**
 * The trigger of the private services: Cloud Tasks posts a task and waits for the status, up to 30 minutes.
 *
 * A handler runs on when its caller is gone (the deadline has passed, the connection broke). Its lease keeps the next
 * try away, which is then answered as settled, and if the work is given up after all, reconcile makes a new task.
 */
export class HttpPush {
  readonly #app: Express;
  readonly #options: HttpPushOptions;
  readonly #stopping = new AbortController();
  readonly #running = new Map<Promise<unknown>, TaskType>();
  #server: Server | undefined;

  constructor(options: HttpPushOptions) {
    this.#options = options;
    this.#app = express();
    this.#app.disable('x-powered-by');
    this.#app.get('/health/ready', this.#ready);
    this.#app
      .route(TASKS_PATH)
      .post(
        this.#authenticate,
        express.json({ limit: MAX_BODY, type: () => true, strict: false }),
        this.#take,
      )
      .all((_req, res) => {
        res.set('Allow', 'POST').sendStatus(405);
      });
    this.#app.use((_req, res) => {
      res.sendStatus(404);
    });
    this.#app.use(this.#failed);
  }

  /** @throws when the port is taken, or may not be used */
  async listen(address: { host: string; port: number }): Promise<Listening> {
    return this.answer(await EarlyServer.listen(address));
  }

  /** Takes the tasks of a server that listens already. */
  answer(early: EarlyServer): Listening {
    const { server } = early;
    this.#server = server;
    early.answerWith(this.#app);
    const address = server.address() as AddressInfo;
    const shownHost = address.family === 'IPv6' ? `[${address.address}]` : address.address;
    return { url: `http://${shownHost}:${address.port}`, port: address.port };
  }

  /**
   * Takes no more, asks what runs to give its work back, waits for that and for its answers, `timeoutMs` at most, and
   * breaks off the rest: those tasks come again when their leases have run out.
   */
  async stop(timeoutMs: number): Promise<void> {
    const closed = this.#server?.listening ? once(this.#server, 'close') : Promise.resolve();
    this.#server?.close();
    this.#stopping.abort();
    await within(Promise.allSettled(this.#running.keys()), Math.max(0, timeoutMs - FLUSH_MS));
    this.#server?.closeIdleConnections();
    await within(closed, FLUSH_MS);
    this.#server?.closeAllConnections();
    await closed;
  }

  readonly #ready: RequestHandler = (_req, res) => {
    const { isReady, ...more } = this.#stopping.signal.aborted
      ? { isReady: false, detail: 'The service is stopping.' }
      : this.#options.readiness();
    res.status(isReady ? 200 : 503).json({ status: isReady ? 'ready' : 'not-ready', ...more });
  };

  readonly #authenticate: RequestHandler = async (req, res, next) => {
    const refusal = await this.#options.auth({
      authorization: req.get('authorization'),
      origin: req.get('origin'),
    });
    if (refusal === undefined) {
      next();
      return;
    }
    this.#options.log.warn({ reason: refusal.reason, status: refusal.status }, 'a call was refused');
    if (refusal.status === 401) res.set('WWW-Authenticate', 'Bearer');
    res.sendStatus(refusal.status);
  };

  readonly #take: RequestHandler = async (req, res) => {
    const status = await this.#statusFor(req);
    if (this.#stopping.signal.aborted) res.set('Connection', 'close');
    res.status(status).end();
  };

  async #statusFor(req: Request): Promise<number> {
    const { log, handlers } = this.#options;
    const task = taskName(req);
    const payload = readTaskPayload(req.body);
    if (payload === undefined) return this.#giveUp(task, 'the body is not a task');
    const handle = handlers[payload.type];
    // It would be sent here for ever: a task keeps the address that it was made with.
    if (handle === undefined) {
      return this.#giveUp(task, `tasks of type ${payload.type} are not for this service`);
    }

    if (this.#stopping.signal.aborted || !this.#hasRoomFor(payload.type)) {
      log.info({ task, type: payload.type }, 'sent a task back: there is no room for it now');
      return TRY_AGAIN;
    }
    const work = this.#work(handle, payload, task);
    this.#running.set(work, payload.type);
    return work.finally(() => this.#running.delete(work));
  }

  #hasRoomFor(type: TaskType): boolean {
    const { maxConcurrent, maxConcurrentOf = {} } = this.#options;
    const most = maxConcurrentOf[type];
    const counts = (other: TaskType) =>
      most === undefined ? maxConcurrentOf[other] === undefined : other === type;
    return [...this.#running.values()].filter(counts).length < (most ?? maxConcurrent);
  }

  async #work(handle: TaskHandler, payload: TaskPayload, task: string | undefined): Promise<number> {
    const log = this.#options.log.child({ task, type: payload.type, job: payload.job?.id });
    const startMs = performance.now();
    try {
      const outcome = await handle(payload, { signal: this.#stopping.signal });
      const seconds = Math.round(performance.now() - startMs) / 1_000;
      log.info({ outcome: outcome.kind, seconds }, 'the task ended');
      return outcome.kind === 'retry' ? TRY_AGAIN : SETTLED;
    } catch (error) {
      log.error({ err: error }, 'the handler failed');
      return TRY_AGAIN;
    }
  }

  /**
   * The caller is known, so somebody made a mistake that no retry repairs: the task is settled, and reconcile makes a
   * new one for its job. Nothing of the body is logged.
   */
  #giveUp(task: string | undefined, reason: string): number {
    this.#options.log.error({ task, reason }, 'settled a task that can never succeed');
    return SETTLED;
  }

  readonly #failed: ErrorRequestHandler = (error: unknown, req, res, _next) => {
    const type = errorType(error);
    // The sender is gone, so nobody reads an answer, and the task comes again.
    if (type === 'request.aborted') res.destroy();
    else if (type !== undefined)
      res.status(this.#giveUp(taskName(req), `the body is not a task (${type})`)).end();
    else {
      this.#options.log.error({ err: error }, 'the request failed');
      res.status(TRY_AGAIN).end();
    }
  };
}

/** What Express's body parser says: a word, while its message may quote the body. */
function errorType(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('type' in error)) return undefined;
  return typeof error.type === 'string' ? error.type : undefined;
}

/** For the log, to find the task in the queue by. Whoever calls may write what he likes into the header. */
function taskName(req: Request): string | undefined {
  const name = req.get('x-cloudtasks-taskname');
  return name !== undefined && /^[\w-]{1,500}$/.test(name) ? name : undefined;
}
