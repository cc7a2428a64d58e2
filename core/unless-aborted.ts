import { addAbortListener } from 'node:events';

/** What the work comes to, or the reason of `signal` as soon as it aborts: for work that knows no signals itself. */
export async function unlessAborted<T>(work: Promise<T> | T, signal: AbortSignal | undefined): Promise<T> {
  signal?.throwIfAborted();
  if (signal === undefined) return await work;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  using _ = addAbortListener(signal, () => reject(signal.reason));
  return await Promise.race([work, aborted]);
}
