import { setTimeout as sleep } from 'node:timers/promises';

/** A service as Cloud Run has it: one address for however many instances run. */
export interface Service {
  /** `http://127.0.0.1:PORT` each. */
  instances: string[];
  /** Requests at a time that an instance gets; default: no limit. */
  concurrency?: number;
  /** With IAM in front: checked there, so the signature of the token does not reach the container. */
  isPrivate?: boolean;
}

export const SIGNATURE_REMOVED = 'SIGNATURE_REMOVED_BY_GOOGLE';
/** Cloud Run's shortest wait for an instance, before it answers 429. */
const PENDING_MS = 10_000;

/** Stands between the queue and the services, where Cloud Run's front end does. Unknown addresses pass as they are. */
export class FrontEnd {
  readonly #services: Map<string, Service>;
  readonly #busy = new Map<string, number>();

  constructor(services: Record<string, Service>) {
    this.#services = new Map(Object.entries(services));
  }

  setService(origin: string, service: Service): void {
    this.#services.set(origin, service);
  }

  /** @returns nothing when no instance became free: the answer is 429 */
  async route(
    url: string,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<{ url: string; headers: Record<string, string>; release(): void } | undefined> {
    const { origin, pathname, search } = new URL(url);
    if (!this.#services.has(origin)) return { url, headers, release: () => {} };
    const instance = await this.#freeInstance(origin, signal);
    if (instance === undefined) return undefined;
    this.#busy.set(instance, this.#busyness(instance) + 1);
    return {
      url: `${instance}${pathname}${search}`,
      headers: this.#services.get(origin)?.isPrivate ? withoutSignature(headers) : headers,
      release: () => this.#busy.set(instance, this.#busyness(instance) - 1),
    };
  }

  async #freeInstance(origin: string, signal: AbortSignal): Promise<string | undefined> {
    const startMs = performance.now();
    while (!signal.aborted && performance.now() - startMs < PENDING_MS) {
      // Looked up each time: instances come and go meanwhile.
      const { instances = [], concurrency = Infinity } = this.#services.get(origin) ?? {};
      const [idlest] = instances.toSorted((a, b) => this.#busyness(a) - this.#busyness(b));
      if (idlest !== undefined && this.#busyness(idlest) < concurrency) return idlest;
      await sleep(10);
    }
    return undefined;
  }

  #busyness(instance: string): number {
    return this.#busy.get(instance) ?? 0;
  }
}

function withoutSignature(headers: Record<string, string>): Record<string, string> {
  const { Authorization: token } = headers;
  return token === undefined
    ? headers
    : { ...headers, Authorization: token.replace(/[^.]*$/, SIGNATURE_REMOVED) };
}
