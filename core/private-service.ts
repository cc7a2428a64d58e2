import { z } from 'zod';
import { LISTEN_ENVIRONMENT, parsed, readEnvironment } from './environment.ts';
import type { TaskPayload } from './tasks/task.ts';
import { readTaskPayload } from './tasks/task-payload.ts';
import { createTaskAuth, type TaskAuth } from './triggers/task-auth.ts';

/** What cpu-service and gpu-service have in common: they listen for tasks, and for nobody else. */
export const PRIVATE_SERVICE_ENVIRONMENT = z.object({
  ...LISTEN_ENVIRONMENT.shape,
  TASK_AUTH: z
    .enum(['iam', 'verify', 'none'])
    .default('none')
    .describe(
      'Who may bring tasks: `iam` (a private Cloud Run service), `verify` (check every token), `none` (the default; loopback only).',
    ),
  TASK_AUDIENCE: z
    .string()
    .default('')
    .describe('The address of this service, as its tokens name it; needed unless `TASK_AUTH=none`.'),
  TASK_OIDC_CERTS_URL: z.url().optional().describe('The keys of an issuer made for tests; loopback only.'),
  TASK_LEASE_SECONDS: z.coerce
    .number('must be a number of seconds')
    .min(3, 'must be at least 3')
    .max(600, 'must be at most 600')
    .default(60)
    .describe('How long a job stays with a worker that shows no sign of life; default 60.'),
  TASK_CALL_LIMIT_SECONDS: z.coerce
    .number('must be a number of seconds')
    .min(1, 'must be at least 1')
    .max(1_500, 'must be at most 1500')
    .default(1_440)
    .describe(
      'How long one call may work before the job goes on in another task; default 1440, of the 1800 that Cloud Tasks waits.',
    ),
});

/** What gpu-service reads instead where it is not called, but started for one task. */
export const RUN_ONCE_ENVIRONMENT = z.object({
  RUN_TASK: parsed(parseTask)
    .optional()
    .describe('The payload of a task: gpu-service does that one and ends, without listening to anybody.'),
  RUN_CALL_LIMIT_SECONDS: z.coerce
    .number('must be a number of seconds')
    .min(1, 'must be at least 1')
    .max(604_800, 'must be at most 604800')
    .default(3_000)
    .describe(
      'How long such a run may work before the job goes on in another; default 3000, of the hour that Cloud Run gives a task with a GPU.',
    ),
});

function parseTask(text: string): TaskPayload {
  const payload = readTaskPayload(json(text));
  if (payload?.type !== 'transcribe') throw new Error('must be the payload of a transcribe task');
  return payload;
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export interface RunOnceConfig {
  task: TaskPayload;
  callLimitMs: number;
  leaseMs: number;
}

/**
 * Nothing where there is no task, and so a service is meant.
 * @throws {ConfigError}
 */
export function readRunOnceConfig(env: NodeJS.ProcessEnv): RunOnceConfig | undefined {
  const { RUN_TASK, RUN_CALL_LIMIT_SECONDS } = readEnvironment(RUN_ONCE_ENVIRONMENT, env);
  if (RUN_TASK === undefined) return undefined;
  const { TASK_LEASE_SECONDS } = readEnvironment(
    PRIVATE_SERVICE_ENVIRONMENT.pick({ TASK_LEASE_SECONDS: true }),
    env,
  );
  return {
    task: RUN_TASK,
    callLimitMs: RUN_CALL_LIMIT_SECONDS * 1_000,
    leaseMs: TASK_LEASE_SECONDS * 1_000,
  };
}

export interface PrivateServiceConfig {
  host: string;
  port: number;
  auth: TaskAuth;
  callLimitMs: number;
  leaseMs: number;
}

/** @throws {ConfigError} */
export function readPrivateServiceConfig(env: NodeJS.ProcessEnv): PrivateServiceConfig {
  const values = readEnvironment(PRIVATE_SERVICE_ENVIRONMENT, env);
  const caller = { audience: values.TASK_AUDIENCE, invokerEmail: env.TASK_INVOKER_EMAIL ?? '' };
  const settings = {
    none: { mode: 'none' },
    iam: { mode: 'iam', ...caller },
    verify: { mode: 'verify', ...caller, certsUrl: values.TASK_OIDC_CERTS_URL },
  } as const;
  return {
    host: values.HOST,
    port: values.PORT,
    // Cloud Run sets K_SERVICE in every service and in nothing else.
    auth: createTaskAuth(settings[values.TASK_AUTH], {
      host: values.HOST,
      isBehindIam: env.K_SERVICE !== undefined,
    }),
    leaseMs: values.TASK_LEASE_SECONDS * 1_000,
    callLimitMs: values.TASK_CALL_LIMIT_SECONDS * 1_000,
  };
}
