import { randomInt } from 'node:crypto';
import { z } from 'zod';
import {
  ApiError,
  formatDuration,
  formatEnum,
  formatTimestamp,
  HTTP_METHODS,
  parseDurationMs,
  parseEnum,
  parseTimestampMs,
  VIEWS,
} from './wire.ts';

export interface Task {
  /** `projects/P/locations/L/queues/Q/tasks/T` */
  name: string;
  queue: string;
  request: {
    url: string;
    method: string;
    headers: Record<string, string>;
    bodyBase64: string | null;
    oidc: { email: string; audience: string } | null;
  };
  deadlineMs: number;
  createdMs: number;
  /** As told to whoever asks. */
  scheduleMs: number;
  /** When it is really due: sooner, if the fake runs faster than the real service. */
  dueMs: number;
  attempts: number;
  responses: number;
  /** Responses that were not 5xx. */
  executions: number;
  previousResponse: number | null;
  firstAttemptMs: number | null;
  lastAttempt: {
    scheduleMs: number;
    dispatchMs: number;
    responseMs: number | null;
    status: number | null;
  } | null;
}

const DEFAULT_DEADLINE_MS = 600_000;
const MIN_DEADLINE_MS = 15_000;
const MAX_DEADLINE_MS = 1_800_000;
const MAX_AHEAD_MS = 30 * 24 * 3_600_000;
const MAX_TASK_BYTES = 1_048_576;
const MAX_HEADERS_BYTES = 80 * 1_024;
const MAX_URL_LENGTH = 2_083;
const TASK_ID = /^[A-Za-z0-9_-]{1,500}$/;
const WITH_BODY = new Set(['POST', 'PUT', 'PATCH']);
/** Ignored or replaced, says the reference; the queue's own headers win over the task's. */
const RESERVED_HEADER = /^(host|content-length|user-agent|x-google-.*|x-appengine-.*|x-cloudtasks-.*)$/i;

const TaskInput = z.object({
  name: z.string().optional(),
  appEngineHttpRequest: z.unknown().optional(),
  httpRequest: z
    .object({
      url: z.string().default(''),
      httpMethod: z.union([z.string(), z.number()]).optional(),
      headers: z.record(z.string(), z.string()).default({}),
      body: z.string().optional(),
      oauthToken: z.unknown().optional(),
      oidcToken: z.object({ serviceAccountEmail: z.string(), audience: z.string().optional() }).optional(),
    })
    .optional(),
  scheduleTime: z.string().optional(),
  dispatchDeadline: z.string().optional(),
});

export function newTask(queue: string, input: unknown, nowMs: number): Task {
  const task = TaskInput.parse(input);
  if (task.httpRequest === undefined || task.httpRequest.oauthToken !== undefined) {
    throw new ApiError('UNIMPLEMENTED', 'This fake knows HTTP targets with OIDC tokens only.');
  }
  const { url, headers, body, oidcToken } = task.httpRequest;
  const method = parseEnum(HTTP_METHODS, task.httpRequest.httpMethod || 'POST') ?? 'POST';
  const scheduleMs = Math.max(
    nowMs,
    task.scheduleTime === undefined ? nowMs : parseTimestampMs(task.scheduleTime),
  );
  const deadlineMs =
    task.dispatchDeadline === undefined
      ? DEFAULT_DEADLINE_MS
      : Math.trunc(parseDurationMs(task.dispatchDeadline));
  const rules: [isBroken: boolean, message: string][] = [
    [url === '', 'HttpRequest.url is required.'],
    [!/^https?:\/\//.test(url), "HttpTarget.url must start with 'http://' or 'https://'."],
    [url.length > MAX_URL_LENGTH, `HttpRequest.url is longer than ${MAX_URL_LENGTH} characters.`],
    [body !== undefined && !WITH_BODY.has(method), `HttpRequest.body is not allowed with ${method}.`],
    [JSON.stringify(headers).length >= MAX_HEADERS_BYTES, 'HttpRequest.headers are too large.'],
    [JSON.stringify(task).length > MAX_TASK_BYTES, 'Task size too large'],
    [scheduleMs > nowMs + MAX_AHEAD_MS, 'Task.scheduleTime is more than 30 days in the future.'],
    [
      deadlineMs < MIN_DEADLINE_MS || deadlineMs > MAX_DEADLINE_MS,
      'Task.dispatchDeadline must be between [15s, 30m].',
    ],
  ];
  const broken = rules.find(([isBroken]) => isBroken);
  if (broken !== undefined) throw new ApiError('INVALID_ARGUMENT', broken[1]);
  return {
    name:
      task.name === undefined || task.name === ''
        ? `${queue}/tasks/${randomInt(2 ** 47)}`
        : checkName(queue, task.name),
    queue,
    request: {
      url,
      method,
      headers: Object.fromEntries(Object.entries(headers).filter(([name]) => !RESERVED_HEADER.test(name))),
      bodyBase64: body ?? null,
      oidc:
        oidcToken === undefined
          ? null
          : { email: oidcToken.serviceAccountEmail, audience: oidcToken.audience || url },
    },
    deadlineMs,
    createdMs: nowMs,
    scheduleMs,
    dueMs: scheduleMs,
    attempts: 0,
    responses: 0,
    executions: 0,
    previousResponse: null,
    firstAttemptMs: null,
    lastAttempt: null,
  };
}

function checkName(queue: string, name: string): string {
  const [, itsQueue, id = ''] = /^(.*)\/tasks\/(.*)$/.exec(name) ?? [];
  if (itsQueue !== queue) {
    throw new ApiError(
      'INVALID_ARGUMENT',
      `The queue name from request ('${queue}') must be the same as the queue name in the named task ('${itsQueue ?? name}').`,
    );
  }
  if (!TASK_ID.test(id)) {
    throw new ApiError(
      'INVALID_ARGUMENT',
      `Task ID "${id}" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or underscores (_). Task ID must between 1 and 500 characters.`,
    );
  }
  return name;
}

export const shortName = (name: string): string => name.slice(name.lastIndexOf('/') + 1);

/** As recorded from the real service, for the attempt that is about to be made. */
export function dispatchHeaders(task: Task): Record<string, string> {
  return {
    'User-Agent': 'Google-Cloud-Tasks',
    'X-CloudTasks-QueueName': shortName(task.queue),
    'X-CloudTasks-TaskName': shortName(task.name),
    'X-CloudTasks-TaskRetryCount': String(task.attempts),
    'X-CloudTasks-TaskExecutionCount': String(task.executions),
    'X-CloudTasks-TaskETA': (task.scheduleMs / 1_000).toFixed(6),
    ...(task.previousResponse !== null && {
      'X-CloudTasks-TaskPreviousResponse': String(task.previousResponse),
      // Always empty for HTTP targets.
      'X-CloudTasks-TaskRetryReason': '',
    }),
  };
}

export function renderTask(task: Task, view: string | undefined, isNumeric: boolean): object {
  const { url, method, headers, bodyBase64, oidc } = task.request;
  const isFull = view === 'FULL';
  const last = task.lastAttempt;
  return {
    name: task.name,
    httpRequest: {
      url,
      httpMethod: formatEnum(HTTP_METHODS, method, isNumeric),
      headers: { 'User-Agent': 'Google-Cloud-Tasks', ...headers },
      ...(isFull && bodyBase64 !== null && { body: bodyBase64 }),
      ...(oidc !== null && { oidcToken: { serviceAccountEmail: oidc.email, audience: oidc.audience } }),
    },
    scheduleTime: formatTimestamp(task.scheduleMs),
    createTime: formatTimestamp(Math.floor(task.createdMs / 1_000) * 1_000),
    dispatchDeadline: formatDuration(task.deadlineMs),
    dispatchCount: task.attempts,
    responseCount: task.responses,
    ...(task.firstAttemptMs !== null && {
      firstAttempt: { dispatchTime: formatTimestamp(task.firstAttemptMs) },
    }),
    ...(last !== null && {
      lastAttempt: {
        scheduleTime: formatTimestamp(last.scheduleMs),
        dispatchTime: formatTimestamp(last.dispatchMs),
        ...(last.responseMs !== null && {
          responseTime: formatTimestamp(last.responseMs),
          responseStatus: { code: 2, message: `HTTP status code ${last.status}` },
        }),
      },
    }),
    view: formatEnum(VIEWS, isFull ? 'FULL' : 'BASIC', isNumeric),
  };
}
