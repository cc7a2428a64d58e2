import type { WorkerContext } from '../../core/tasks/worker-context.ts';

/** The process died in the middle. */
export class Death extends Error {
  override readonly name = 'Death';
}

/** Rejects, whether it is awaited or iterated over. */
function dead(): Promise<never> & AsyncIterable<never> {
  const death = Promise.reject(new Death());
  // Whoever iterates does not await it.
  death.catch(() => {});
  return Object.assign(death, {
    [Symbol.asyncIterator]: () => ({ next: () => death }),
  });
}

/**
 * The same context for a process that dies at its `at`-th call of a port, counted from 1: before the call has had its
 * effect, or after it and before anybody here knows. From then on nothing it does has any effect.
 */
export function dying<C extends WorkerContext>(
  context: C,
  at: number,
  when: 'before' | 'after',
): C & { hasDied(): boolean } {
  let calls = 0;
  const mortal = <T extends object>(port: T): T =>
    new Proxy(port, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]) => {
          calls += 1;
          const isLast = calls === at;
          if (calls > at || (isLast && when === 'before')) return dead();
          const result: unknown = member.apply(target, args);
          if (!isLast) return result;
          const done = Promise.resolve(result).then(dead);
          done.catch(() => {});
          return Object.assign(done, { [Symbol.asyncIterator]: () => ({ next: () => done }) });
        };
      },
    });
  const { runs } = context;
  return {
    ...context,
    records: mortal(context.records),
    queue: mortal(context.queue),
    blobs: mortal(context.blobs),
    ...(runs === undefined ? {} : { runs: new Map([...runs].map(([name, one]) => [name, mortal(one)])) }),
    hasDied: () => calls >= at,
  };
}
