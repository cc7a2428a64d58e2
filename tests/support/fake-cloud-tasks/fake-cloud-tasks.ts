import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Attempt, Dispatcher } from './dispatcher.ts';
import { type FaultSettings, Faults } from './faults.ts';
import { FrontEnd, type Service } from './front-end.ts';
import { newQueue, type QueueSettings } from './queue.ts';
import { answer } from './rest-api.ts';
import { Store } from './store.ts';
import type { TokenIssuer } from './token-issuer.ts';

export interface FakeCloudTasksOptions {
  /** Default: any free one. */
  port?: number;
  /** A file that survives the process; default: memory. */
  database?: string;
  /** Made at the start unless they exist: full name → settings as the API takes them. */
  queues?: Record<string, QueueSettings>;
  /** With settings here, a queue that is used and does not exist is made. The real service never does that. */
  autoCreate?: QueueSettings;
  /** Services that are called by one address and served by several instances: origin → where they are. */
  services?: Record<string, Service>;
  /** How much faster than the real service: 0.01 makes a second of it 10 ms. `schedule` is the delay of new tasks. */
  scale?: { retry?: number; deadline?: number; schedule?: number };
  /** How long the name of a task stays taken after its end. */
  tombstoneMs?: number;
  seed?: number;
  faults?: FaultSettings;
}

export interface FakeCloudTasks {
  /** For CLOUD_TASKS_API_ENDPOINT. */
  url: string;
  port: number;
  /** For TASK_OIDC_CERTS_URL. */
  certsUrl: string;
  issuer: TokenIssuer;
  faults: Faults;
  /** Every dispatch so far, in the order of their ends. */
  attempts: Attempt[];
  setService(origin: string, service: Service): void;
  /** Breaks off dispatches and calls that run. */
  close(): Promise<void>;
}

const HOUR_MS = 3_600_000;

/**
 * Cloud Tasks as its REST v2 clients and its HTTP targets see it. Not here: App Engine targets, OAuth tokens, access
 * control, the slow start of a new queue, the slow-down for errors other than 429 and 503, and the end after 31 days.
 */
export async function startFakeCloudTasks(options: FakeCloudTasksOptions = {}): Promise<FakeCloudTasks> {
  const store = new Store(options.database ?? ':memory:');
  for (const [name, settings] of Object.entries(options.queues ?? {})) {
    if (!store.queues.has(name)) store.saveQueue(newQueue(name, settings));
  }
  const faults = new Faults(options.seed ?? 1);
  faults.set(options.faults ?? {});
  const frontEnd = new FrontEnd(options.services ?? {});
  const attempts: Attempt[] = [];
  const { retry = 1, deadline = 1, schedule = 1 } = options.scale ?? {};

  const dispatchers = new Map<string, Dispatcher>();
  const wake = (queueName: string) => {
    let dispatcher = dispatchers.get(queueName);
    if (dispatcher === undefined) {
      dispatcher = new Dispatcher(queueName, {
        store,
        faults,
        frontEnd,
        scale: { retry, deadline },
        onAttempt: (attempt) => attempts.push(attempt),
      });
      dispatchers.set(queueName, dispatcher);
    }
    dispatcher.wake();
  };

  const state = {
    store,
    faults,
    frontEnd,
    attempts,
    wake,
    scheduleScale: schedule,
    tombstoneMs: options.tombstoneMs ?? HOUR_MS,
    autoCreate: options.autoCreate,
  };
  const server = createServer((req, res) => void answer(state, req, res));
  server.listen(options.port ?? 0, '127.0.0.1');
  await once(server, 'listening');
  for (const name of store.queues.keys()) wake(name);

  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    port,
    certsUrl: `${url}/oauth2/v1/certs`,
    issuer: store.issuer,
    faults,
    attempts,
    setService: (origin, service) => frontEnd.setService(origin, service),
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
      await Promise.all([...dispatchers.values()].map((dispatcher) => dispatcher.stop()));
      store.close();
    },
  };
}
