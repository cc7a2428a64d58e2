import type { Problem } from '../core/problem.ts';
import { RecordingUnreadable } from './recording-bytes.ts';

/** The service answered with a problem document. */
export class ApiProblem extends Error {
  override readonly name = 'ApiProblem';
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(`${problem.title}: ${problem.detail}`);
    this.problem = problem;
  }
}

/** No answer came. The message is a sentence for the user. */
export class ServiceUnreachable extends Error {
  override readonly name = 'ServiceUnreachable';
  /** The same request may get through in a moment. */
  readonly mayPass: boolean;

  constructor(message: string, { cause, mayPass = false }: { cause?: unknown; mayPass?: boolean } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.mayPass = mayPass;
  }
}

/** Answers of a proxy, or of a service that is starting: the same request may succeed in a moment. */
export const WORTH_A_RETRY: ReadonlySet<number> = new Set([502, 503, 504]);
const WILL_NOT_PASS = new Set(['ECONNREFUSED', 'ENOTFOUND']);

export function isPassing(error: unknown): boolean {
  if (error instanceof ApiProblem) return WORTH_A_RETRY.has(error.problem.status);
  return error instanceof ServiceUnreachable && error.mayPass;
}

/** What a request to `server` failed with, as the user can understand it. */
export function explainFailure(server: string, error: unknown, signal?: AbortSignal): unknown {
  if (signal?.aborted) return signal.reason;
  if (error instanceof ApiProblem || error instanceof RecordingUnreadable) return error;
  const { name, code, reason } = whatFailed(error);
  if (name === 'TimeoutError') return new ServiceUnreachable(`${server} did not answer in time. Try again.`);
  // Only `fetch` says this, and gives it no code.
  if (reason === 'bad port') {
    return new ServiceUnreachable(
      `Port ${new URL(server).port} of ${server} is kept for another protocol and never used for HTTP. Check --server.`,
    );
  }
  if (code === undefined) return error;
  return new ServiceUnreachable(describe(server, code), { cause: error, mayPass: !WILL_NOT_PASS.has(code) });
}

function describe(server: string, code: string): string {
  switch (code) {
    case 'ECONNREFUSED':
      return `Nothing answers at ${server}. Start the service with "zeroscribe serve", or name another with --server.`;
    case 'ENOTFOUND':
      return `The host of ${server} cannot be found. Check --server and the network.`;
    default:
      return `The connection to ${server} failed (${code}). Check --server and the network.`;
  }
}

/** `fetch` hides what happened in `cause`. */
function whatFailed(error: unknown): Record<'name' | 'code' | 'reason', string | undefined> {
  const outer = error as { name?: string; code?: unknown; cause?: { code?: unknown; message?: string } };
  const code = outer.cause?.code ?? outer.code;
  return {
    name: outer.name,
    code: typeof code === 'string' ? code : undefined,
    reason: outer.cause?.message,
  };
}

export function readProblem(status: number, body: string): Problem {
  try {
    const problem = JSON.parse(body) as Problem;
    if (typeof problem.title === 'string' && typeof problem.detail === 'string')
      return { ...problem, status };
  } catch {
    // A proxy's page.
  }
  return {
    type: 'about:blank',
    title: `The server answered with status ${status}`,
    status,
    detail: 'The answer is not from Zeroscribe. Check the address given with --server.',
  };
}
