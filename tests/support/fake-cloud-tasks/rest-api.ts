import type { IncomingMessage, ServerResponse } from 'node:http';
import { ZodError } from 'zod';
import type { Attempt } from './dispatcher.ts';
import type { FaultSettings, Faults } from './faults.ts';
import type { FrontEnd, Service } from './front-end.ts';
import { newQueue, type Queue, type QueueSettings, renderQueue, updateQueue } from './queue.ts';
import type { Store } from './store.ts';
import { newTask, renderTask, type Task } from './task.ts';
import { ApiError, parseEnum, VIEWS } from './wire.ts';

export interface State {
  store: Store;
  faults: Faults;
  frontEnd: FrontEnd;
  attempts: Attempt[];
  /** Lets the dispatcher of the queue look again. */
  wake(queueName: string): void;
  scheduleScale: number;
  tombstoneMs: number;
  autoCreate: QueueSettings | undefined;
}

interface Call {
  /** What the path names. */
  name: string;
  body: Record<string, unknown>;
  query: URLSearchParams;
  isNumeric: boolean;
}

/** An answer that does not come: the connection breaks, or nothing ever happens on it. */
type NoAnswer = 'broken' | 'silent';
type Handler = (state: State, call: Call) => object | NoAnswer;

const LOCATION = 'projects/[^/]+/locations/[^/]+';
const QUEUE = `${LOCATION}/queues/[^/:]+`;
const TASK = `${QUEUE}/tasks/[^/:]+`;

const ROUTES: [method: string, path: RegExp, handler: Handler][] = [
  ['GET', new RegExp(`^/v2/(${LOCATION})/queues$`), listQueues],
  ['POST', new RegExp(`^/v2/(${LOCATION})/queues$`), createQueue],
  ['GET', new RegExp(`^/v2/(${QUEUE})$`), (state, call) => shown(findQueue(state, call.name), call)],
  ['PATCH', new RegExp(`^/v2/(${QUEUE})$`), patchQueue],
  ['DELETE', new RegExp(`^/v2/(${QUEUE})$`), deleteQueue],
  [
    'POST',
    new RegExp(`^/v2/(${QUEUE}):pause$`),
    (state, call) => changeQueue(state, call, { state: 'PAUSED' }),
  ],
  [
    'POST',
    new RegExp(`^/v2/(${QUEUE}):resume$`),
    (state, call) => changeQueue(state, call, { state: 'RUNNING' }),
  ],
  ['POST', new RegExp(`^/v2/(${QUEUE}):purge$`), purgeQueue],
  ['GET', new RegExp(`^/v2/(${QUEUE})/tasks$`), listTasks],
  ['POST', new RegExp(`^/v2/(${QUEUE})/tasks$`), createTask],
  ['GET', new RegExp(`^/v2/(${TASK})$`), getTask],
  ['DELETE', new RegExp(`^/v2/(${TASK})$`), deleteTask],
  // Not the API: the issuer's keys, and what only a fake has.
  ['GET', /^\/oauth2\/v1\/certs()$/, ({ store }) => store.issuer.pemCerts()],
  ['GET', /^\/oauth2\/v3\/certs()$/, ({ store }) => store.issuer.jwks()],
  ['GET', /^\/_fake\/attempts()$/, ({ attempts }) => attempts],
  ['GET', /^\/_fake\/faults()$/, ({ faults }) => faults.counts],
  ['PUT', /^\/_fake\/faults()$/, setFaults],
  ['PUT', /^\/_fake\/services()$/, setServices],
];

export async function answer(state: State, req: IncomingMessage, res: ServerResponse): Promise<void> {
  try {
    const url = new URL(req.url ?? '/', 'http://fake');
    const path = decodeURIComponent(url.pathname);
    const body = await readBody(req);
    for (const [method, pattern, handler] of ROUTES) {
      const name = req.method === method ? pattern.exec(path)?.[1] : undefined;
      if (name === undefined) continue;
      const isNumeric = url.searchParams.get('$alt')?.includes('enum-encoding=int') ?? false;
      const result = handler(state, { name, body, query: url.searchParams, isNumeric });
      if (result === 'broken') res.destroy();
      else if (result !== 'silent') send(res, 200, result);
      return;
    }
    throw new ApiError('NOT_FOUND', `There is no ${req.method} ${path}`);
  } catch (error) {
    sendError(res, error);
  }
}

async function readBody(req: IncomingMessage): Promise<Record<string, unknown>> {
  const text = Buffer.concat(await req.toArray()).toString();
  if (text === '') return {};
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    throw new ApiError('INVALID_ARGUMENT', 'Invalid JSON payload received.');
  }
}

function send(res: ServerResponse, status: number, body: object): void {
  res
    .writeHead(status, {
      'Content-Type': 'application/json; charset=UTF-8',
      'Cache-Control': 'public, max-age=300',
    })
    .end(JSON.stringify(body));
}

function sendError(res: ServerResponse, error: unknown): void {
  if (error instanceof ApiError) {
    const { code, message, status } = error;
    send(res, code, { error: { code, message, status } });
  } else if (error instanceof ZodError) {
    const message = `Invalid JSON payload received. ${error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join(' ')}`;
    send(res, 400, { error: { code: 400, message, status: 'INVALID_ARGUMENT' } });
  } else {
    send(res, 500, { error: { code: 500, message: String(error), status: 'INTERNAL' } });
  }
}

function shown(queue: Queue, { isNumeric }: Call): object {
  return renderQueue(queue, isNumeric);
}

function findQueue(state: State, name: string): Queue {
  const queue = state.store.queues.get(name);
  if (queue !== undefined && queue.deletedMs === null) return queue;
  if (queue === undefined && state.autoCreate !== undefined) {
    const created = newQueue(name, state.autoCreate);
    state.store.saveQueue(created);
    return created;
  }
  throw new ApiError(
    'NOT_FOUND',
    'Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize.',
  );
}

function listQueues({ store }: State, { name, query, isNumeric }: Call): object {
  const queues = [...store.queues.values()]
    .filter((queue) => queue.deletedMs === null && queue.name.startsWith(`${name}/queues/`))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const { items, nextPageToken } = page(queues, query, 9_800);
  return { queues: items.map((queue) => renderQueue(queue, isNumeric)), nextPageToken };
}

function createQueue(state: State, call: Call): object {
  const name = String(call.body.name ?? '');
  const queue = newQueue(name, call.body);
  const present = state.store.queues.get(name);
  if (present?.deletedMs === null) throw new ApiError('ALREADY_EXISTS', 'Queue already exists');
  if (present !== undefined) {
    throw new ApiError(
      'FAILED_PRECONDITION',
      'The queue cannot be created because a queue with this name existed too recently.',
    );
  }
  state.store.saveQueue(queue);
  return shown(queue, call);
}

function patchQueue(state: State, call: Call): object {
  const present = state.store.queues.get(call.name);
  if (present === undefined) return createQueue(state, { ...call, body: { ...call.body, name: call.name } });
  // Clients write rateLimits.maxBurstSize or rate_limits.max_burst_size.
  const paths = call.query
    .get('updateMask')
    ?.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const mask = paths?.split(',').filter(Boolean) ?? [];
  const updated = updateQueue(findQueue(state, call.name), call.body, mask);
  state.store.saveQueue(updated);
  state.wake(updated.name);
  return shown(updated, call);
}

function changeQueue(state: State, call: Call, change: Partial<Queue>): object {
  const changed = { ...findQueue(state, call.name), ...change };
  state.store.saveQueue(changed);
  state.wake(changed.name);
  return shown(changed, call);
}

function purgeQueue(state: State, call: Call): object {
  const { name } = findQueue(state, call.name);
  const nowMs = Date.now();
  for (const task of tasksOf(state, name)) state.store.endTask(task, nowMs);
  return changeQueue(state, call, { purgedMs: nowMs });
}

function deleteQueue(state: State, call: Call): object {
  const queue = state.store.queues.get(call.name);
  if (queue === undefined || queue.deletedMs !== null) {
    throw new ApiError('NOT_FOUND', 'Requested entity was not found.');
  }
  const nowMs = Date.now();
  for (const task of tasksOf(state, queue.name)) state.store.endTask(task, nowMs);
  state.store.saveQueue({ ...queue, deletedMs: nowMs });
  state.wake(queue.name);
  return {};
}

function tasksOf({ store }: State, queueName: string): Task[] {
  return [...store.tasks.values()].filter(({ queue }) => queue === queueName);
}

function createTask(state: State, { name, body, isNumeric }: Call): object | NoAnswer {
  const { store, faults } = state;
  if (faults.happens('refuse-create'))
    throw new ApiError('UNAVAILABLE', 'The service is currently unavailable.');
  const queue = findQueue(state, name);
  const nowMs = Date.now();
  store.sweepTombstones(nowMs - state.tombstoneMs);
  const task = newTask(queue.name, body.task ?? {}, nowMs);
  if (store.tasks.has(task.name) || store.tombstones.has(task.name)) {
    throw new ApiError('ALREADY_EXISTS', 'Requested entity already exists');
  }
  task.dueMs = nowMs + (task.scheduleMs - nowMs) * state.scheduleScale;
  store.saveTask(task);
  state.wake(queue.name);
  if (faults.happens('lose-create-reply')) return 'broken';
  if (faults.happens('stall-create')) return 'silent';
  return renderTask(task, parseEnum(VIEWS, body.responseView), isNumeric);
}

function findTask({ store, faults }: State, name: string): Task {
  if (faults.happens('refuse-call'))
    throw new ApiError('UNAVAILABLE', 'The service is currently unavailable.');
  const task = store.tasks.get(name);
  if (task !== undefined) return task;
  throw new ApiError(
    'NOT_FOUND',
    store.tombstones.has(name)
      ? 'The task no longer exists, though a task with this name existed recently. The task either successfully completed or was deleted.'
      : 'Requested entity was not found.',
  );
}

function getTask(state: State, { name, query, isNumeric }: Call): object {
  return renderTask(
    findTask(state, name),
    parseEnum(VIEWS, query.get('responseView') ?? undefined),
    isNumeric,
  );
}

/** One that runs can be deleted too: its attempt goes on, and nobody asks for the result. */
function deleteTask(state: State, { name }: Call): object {
  state.store.endTask(findTask(state, name), Date.now());
  return {};
}

function listTasks(state: State, { name, query, isNumeric }: Call): object {
  const view = parseEnum(VIEWS, query.get('responseView') ?? undefined);
  const { items, nextPageToken } = page(tasksOf(state, findQueue(state, name).name), query, 1_000);
  return { tasks: items.map((task) => renderTask(task, view, isNumeric)), nextPageToken };
}

/** The token is the number of the first item of the next page. */
function page<T>(
  all: readonly T[],
  query: URLSearchParams,
  maxSize: number,
): { items: T[]; nextPageToken: string } {
  const start = Number(query.get('pageToken') ?? 0);
  const size = Math.min(maxSize, Number(query.get('pageSize')) || maxSize);
  const isLast = start + size >= all.length;
  return { items: all.slice(start, start + size), nextPageToken: isLast ? '' : String(start + size) };
}

function setFaults({ faults }: State, { body }: Call): object {
  faults.set(body as FaultSettings);
  return {};
}

function setServices({ frontEnd }: State, { body }: Call): object {
  for (const [origin, service] of Object.entries(body)) frontEnd.setService(origin, service as Service);
  return {};
}
