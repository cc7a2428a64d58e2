import { randomBytes } from 'node:crypto';

/** A request to one of Google's APIs. */
export interface Call {
  method: string;
  /** Without the region that some have in front: `run.test`. */
  host: string;
  path: string;
  query: URLSearchParams;
  /** Where it is JSON. */
  body: Json;
  raw: Buffer;
  headers: Record<string, string | string[] | undefined>;
}

// biome-ignore lint/suspicious/noExplicitAny: what APIs take and give
export type Json = any;

/** An answer that is not the usual one: 200 with JSON. */
export class Answer {
  readonly status: number;
  readonly body: Json;
  readonly headers: Record<string, string>;

  constructor(status: number, body: Json, headers: Record<string, string> = {}) {
    this.status = status;
    this.body = body;
    this.headers = headers;
  }
}

export class ApiError extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const notFound = (what: string) =>
  new ApiError(404, 'NOT_FOUND', `${what} was not found or does not exist.`);
export const alreadyExists = (what: string) => new ApiError(409, 'ALREADY_EXISTS', `${what} already exists.`);

export interface Policy {
  bindings?: { role: string; members: string[] }[];
  etag?: string;
}

/** A project, as the control planes of Google Cloud know it. What exists is in `resources`, by its full name. */
export class CloudState {
  readonly project: string;
  readonly projectNumber = '123456789012';
  readonly enabledApis = new Set<string>();
  readonly resources = new Map<string, Json>();
  readonly #policies = new Map<string, Policy>();
  /** Names of queues that were deleted, and cannot be used again for now. */
  readonly buriedQueues = new Set<string>();
  readonly builds: Json[] = [];
  hasBilling = true;
  /** By service and id: `run.googleapis.com/MemAllocPerProjectRegion`. */
  readonly quotas = new Map<string, number>();
  /** Rules of organisation policies, by the name of the constraint. */
  readonly orgPolicies = new Map<string, Json[]>();

  constructor(project: string) {
    this.project = project;
  }

  get(name: string): Json {
    const found = this.resources.get(name);
    if (found === undefined) throw notFound(name);
    return found;
  }

  create(name: string, resource: Json): Json {
    if (this.resources.has(name)) throw alreadyExists(name);
    this.resources.set(name, resource);
    return resource;
  }

  delete(name: string): Json {
    const found = this.get(name);
    this.resources.delete(name);
    this.#policies.delete(name);
    return found;
  }

  /** All whose names begin so and go on with nothing but their own part. */
  list(parent: string): Json[] {
    return [...this.resources]
      .filter(([name]) => name.startsWith(parent) && !name.slice(parent.length).includes('/'))
      .map(([, resource]) => resource);
  }

  policy(name: string): Policy {
    return this.#policies.get(name) ?? { etag: 'none' };
  }

  setPolicy(name: string, policy: Policy): Policy {
    if (policy.etag !== undefined && policy.etag !== this.policy(name).etag) {
      throw new ApiError(
        409,
        'ABORTED',
        'There were concurrent policy changes. Please retry the whole read-modify-write.',
      );
    }
    for (const member of (policy.bindings ?? []).flatMap(({ members }) => members)) {
      const email = /^serviceAccount:(.*)/.exec(member)?.[1];
      if (email !== undefined && !this.resources.has(accountName(email))) {
        throw new ApiError(400, 'INVALID_ARGUMENT', `Service account ${email} does not exist.`);
      }
    }
    // gcloud takes it for base64 and sends it back in the other alphabet, so it must have neither + nor /.
    const stored = { ...policy, etag: randomBytes(6).toString('hex') };
    this.#policies.set(name, stored);
    return stored;
  }

  /** `:getIamPolicy` and `:setIamPolicy` of any resource. */
  iam({ path, body }: Call, name: string): Policy {
    if (path.endsWith(':getIamPolicy')) return this.policy(name);
    return this.setPolicy(name, body.policy);
  }
}

export function accountName(email: string): string {
  return `serviceAccounts/${email}`;
}

/** One that is over as soon as it is asked for. */
export function operation(response: Json, name = 'operations/done'): Json {
  return { name, done: true, response };
}
