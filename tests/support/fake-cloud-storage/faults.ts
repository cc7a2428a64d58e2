import { setTimeout as sleep } from 'node:timers/promises';

/** What a request asks for. */
export type Operation =
  | 'insert'
  | 'start-session'
  | 'put-session'
  | 'cancel-session'
  | 'get'
  | 'download'
  | 'list'
  | 'patch'
  | 'delete'
  | 'copy'
  | 'bucket';

export interface Fault {
  /**
   * `status`: refuses, and nothing happens. `stall`: never answers, and nothing happens. `break`: the connection ends
   * after `afterBytes` of the body, of the request or of a download. `lose-reply`: all happens, but the connection
   * ends without an answer. `late`: takes the request in, and it all happens only `ms` later, whether anybody still
   * waits or not. `truncate`: a download that looks complete ends after `afterBytes`. `corrupt`: the first byte of
   * the body is another one, of what is stored (unnoticed by the checks) or of a download.
   */
  kind: 'status' | 'stall' | 'break' | 'lose-reply' | 'late' | 'truncate' | 'corrupt';
  /** Of matching requests. Default 1. */
  times?: number;
  /** Let so many matching requests pass first. */
  after?: number;
  /** Which requests; all by default. */
  operation?: Operation | Operation[];
  namePrefix?: string;
  status?: number;
  ms?: number;
  afterBytes?: number;
}

export class Faults {
  #pending: (Fault & { times: number; after: number })[] = [];

  inject(fault: Fault): void {
    this.#pending.push({ ...fault, times: fault.times ?? 1, after: fault.after ?? 0 });
  }

  clear(): void {
    this.#pending = [];
  }

  /** The fault that this request meets. */
  take(operation: Operation, name: string): Fault | undefined {
    const fault = this.#pending.find(
      (candidate) =>
        (candidate.operation === undefined || [candidate.operation].flat().includes(operation)) &&
        name.startsWith(candidate.namePrefix ?? ''),
    );
    if (fault === undefined) return undefined;
    if (fault.after > 0) {
      fault.after--;
      return undefined;
    }
    fault.times--;
    if (fault.times <= 0) this.#pending = this.#pending.filter((pending) => pending !== fault);
    return fault;
  }
}

/** The end of a connection that a fault asks for. */
export class Broken extends Error {
  override readonly name = 'Broken';
}

/** The body of a request as it comes through a fault. */
export async function* faultyBody(
  body: AsyncIterable<Buffer>,
  fault: Fault | undefined,
): AsyncGenerator<Buffer> {
  if (fault?.kind === 'late') {
    const pieces: Buffer[] = [];
    for await (const piece of body) pieces.push(piece);
    await sleep(fault.ms ?? 0);
    yield* pieces;
    return;
  }
  let left = fault?.kind === 'break' ? (fault.afterBytes ?? 0) : Number.POSITIVE_INFINITY;
  for await (const piece of body) {
    if (piece.length > left) {
      if (left > 0) yield piece.subarray(0, left);
      throw new Broken();
    }
    left -= piece.length;
    yield piece;
  }
}

/** Other bytes than those that came. */
export async function* corrupted(data: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let isFirst = true;
  for await (const piece of data) {
    const bytes = Uint8Array.from(piece);
    if (isFirst && bytes.length > 0) {
      bytes[0] = (bytes[0] as number) ^ 0xff;
      isFirst = false;
    }
    yield bytes;
  }
}
