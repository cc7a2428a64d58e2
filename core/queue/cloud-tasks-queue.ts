import { setTimeout as sleep } from 'node:timers/promises';
import type { CloudTasksClient } from '@google-cloud/tasks';
import type { AuthClient } from 'google-auth-library';
import type { Task } from '../tasks/task.ts';
import { withoutTokens } from '../without-tokens.ts';
import type { Queue } from './queue.ts';

export interface CloudTasksSettings {
  /** `projects/P/locations/L/queues/PREFIX`: the queue `cpu` is then `…/PREFIX-cpu`. */
  queuePrefix: string;
  /** Which service works on a queue: `cpu` or a backend's name → the address of the service, also its tokens' audience. */
  services: Readonly<Record<string, string>>;
  /** The service account that calls the services. */
  invokerEmail: string;
  /** One try of a call. */
  callTimeoutMs?: number;
  /** All tries of a call together. */
  giveUpMs?: number;
}

/** Where the services take their tasks. */
export const TASKS_PATH = '/tasks';

/** The longest that Cloud Tasks waits for an HTTP answer. Workers stop well before. */
const DISPATCH_DEADLINE_S = 1_800;
/** 30 days, less what clocks may differ. Who waits longer enqueues again when the task comes. */
const MAX_DELAY_MS = 30 * 24 * 3_600_000 - 300_000;
const CALL_TIMEOUT_MS = 10_000;
const GIVE_UP_MS = 30_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

/** gRPC's numbers, which Google's clients use over HTTP too. */
const CODE = { NOT_FOUND: 5, ALREADY_EXISTS: 6 } as const;
const CODE_NAMES = new Map([
  [3, 'INVALID_ARGUMENT'],
  [5, 'NOT_FOUND'],
  [7, 'PERMISSION_DENIED'],
  [9, 'FAILED_PRECONDITION'],
  [12, 'UNIMPLEMENTED'],
  [16, 'UNAUTHENTICATED'],
]);

/** Cloud Tasks did not do what it was asked. The message is safe to log: it holds no token. */
export class CloudTasksError extends Error {
  override readonly name = 'CloudTasksError';
}

type TaskRef = Pick<Task, 'queue' | 'name'>;

/**
 * A task is an HTTP POST of its payload to the service that works on its queue, with a token of the invoker account.
 * Every call may be repeated, since every task has a name; the client itself repeats no CreateTask.
 */
export class CloudTasksQueue implements Queue {
  readonly #client: CloudTasksClient;
  readonly #settings: Required<CloudTasksSettings>;

  constructor(client: CloudTasksClient, settings: CloudTasksSettings) {
    this.#client = client;
    this.#settings = { callTimeoutMs: CALL_TIMEOUT_MS, giveUpMs: GIVE_UP_MS, ...settings };
  }

  async enqueue(task: Task, { delayMs = 0 }: { delayMs?: number } = {}): Promise<'created' | 'exists'> {
    const request = {
      parent: this.#queuePath(task.queue),
      task: {
        name: this.#taskPath(task),
        httpRequest: this.#httpRequest(task),
        dispatchDeadline: { seconds: DISPATCH_DEADLINE_S },
        ...(delayMs > 0 && { scheduleTime: timestamp(Date.now() + Math.min(delayMs, MAX_DELAY_MS)) }),
      },
    };
    const { result, isRepeated } = await this.#call(
      'CreateTask',
      task.queue,
      CODE.ALREADY_EXISTS,
      (options) => this.#client.createTask(request, options),
    );
    if (result !== undefined) return 'created';
    // The name may be taken by our own first try, whose answer was lost. Whoever asks wants to know whether such a
    // task will come: then it is there now. If it has come and gone already, one more does no harm.
    return isRepeated && (await this.has(task)) ? 'created' : 'exists';
  }

  async has(ref: TaskRef): Promise<boolean> {
    const name = this.#taskPath(ref);
    const { result } = await this.#call('GetTask', ref.queue, CODE.NOT_FOUND, (options) =>
      this.#client.getTask({ name }, options),
    );
    return result !== undefined;
  }

  /** Takes back one that is worked on too: its call goes on, but it is not tried again. */
  async delete(ref: TaskRef): Promise<void> {
    const name = this.#taskPath(ref);
    await this.#call('DeleteTask', ref.queue, CODE.NOT_FOUND, (options) =>
      this.#client.deleteTask({ name }, options),
    );
  }

  #queuePath(queue: string): string {
    return `${this.#settings.queuePrefix}-${queue}`;
  }

  #taskPath({ queue, name }: TaskRef): string {
    return `${this.#queuePath(queue)}/tasks/${name}`;
  }

  #httpRequest({ queue, payload }: Task) {
    const service = this.#settings.services[queue]?.replace(/\/+$/, '');
    if (service === undefined) throw new TypeError(`no service works on the queue ${queue}`);
    return {
      url: `${service}${TASKS_PATH}`,
      httpMethod: 'POST' as const,
      headers: { 'Content-Type': 'application/json' },
      body: Buffer.from(JSON.stringify(payload)).toString('base64'),
      oidcToken: { serviceAccountEmail: this.#settings.invokerEmail, audience: service },
    };
  }

  /** @returns no result for an answer with the code `expected` */
  async #call<T>(
    method: string,
    queue: string,
    expected: number,
    call: (options: { timeout: number; retry: null }) => Promise<T>,
  ): Promise<{ result: T | undefined; isRepeated: boolean }> {
    const { callTimeoutMs, giveUpMs } = this.#settings;
    const deadlineMs = performance.now() + giveUpMs;
    for (let tries = 1; ; tries++) {
      const isRepeated = tries > 1;
      try {
        return { result: await call({ timeout: callTimeoutMs, retry: null }), isRepeated };
      } catch (error) {
        const code = codeOf(error);
        if (code === expected) return { result: undefined, isRepeated };
        const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (tries - 1)) * (0.5 + Math.random());
        const isHopeless = code !== undefined && CODE_NAMES.has(code);
        if (isHopeless || performance.now() + pauseMs > deadlineMs) {
          throw new CloudTasksError(describe(method, this.#queuePath(queue), error, tries));
        }
        await sleep(pauseMs);
      }
    }
  }
}

/**
 * A client for the real service, with the credentials of the machine, or for an emulator, with none. Both over REST:
 * what the tests see is what the service gets, and no idle channel goes stale in an instance without a CPU.
 * @throws when there are no credentials. The client would look for them at its first call and then, failing, end the
 * process by a rejection that nobody can catch.
 */
export async function createCloudTasksClient({
  apiEndpoint,
}: {
  apiEndpoint?: string | undefined;
} = {}): Promise<CloudTasksClient> {
  // Loaded here: together they take a quarter of a second, which a service without Cloud Tasks need not spend.
  const { CloudTasksClient } = await import('@google-cloud/tasks');
  if (apiEndpoint === undefined) {
    const authClient = await findCredentials(CloudTasksClient.scopes);
    return new CloudTasksClient({ fallback: 'rest', authClient });
  }
  const { PassThroughClient } = await import('google-auth-library');
  const { protocol, hostname, port } = new URL(apiEndpoint);
  return new CloudTasksClient({
    fallback: 'rest',
    protocol: protocol.replace(':', ''),
    apiEndpoint: hostname,
    port: Number(port) || (protocol === 'http:' ? 80 : 443),
    authClient: new PassThroughClient(),
  });
}

async function findCredentials(scopes: string[]): Promise<AuthClient> {
  const { GoogleAuth } = await import('google-auth-library');
  try {
    return await new GoogleAuth({ scopes }).getClient();
  } catch {
    // Its reason is left out: an error of the auth library may quote what it was given.
    throw new CloudTasksError(
      'No Google credentials were found. On Google Cloud, give the service a service account; elsewhere run `gcloud auth application-default login`, or set CLOUD_TASKS_API_ENDPOINT for an emulator.',
    );
  }
}

function timestamp(ms: number): { seconds: number; nanos: number } {
  const wholeMs = Math.ceil(ms);
  return { seconds: Math.floor(wholeMs / 1_000), nanos: (wholeMs % 1_000) * 1_000_000 };
}

function codeOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'number' ? error.code : undefined;
}

const LONGEST_REASON = 300;

function describe(method: string, queuePath: string, error: unknown, tries: number): string {
  const code = codeOf(error);
  const name = code === undefined ? '' : ` with ${CODE_NAMES.get(code) ?? `code ${code}`}`;
  const reason = withoutTokens(error instanceof Error ? error.message : String(error)).slice(
    0,
    LONGEST_REASON,
  );
  return `${method} on ${queuePath} failed${name} after ${tries} ${tries === 1 ? 'try' : 'tries'}: ${reason}`;
}
