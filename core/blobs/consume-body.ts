import { addAbortSignal, type Readable } from 'node:stream';

/**
 * Work that takes a body to its end. When it fails or `signal` aborts, the body is given up, and the reason of an
 * abort is the one to tell.
 */
export async function consumeBody<T>(
  body: Readable | undefined,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  // It may fail while nothing reads it; reading finds out later. Nobody listening would end the process.
  body?.on('error', () => {});
  try {
    signal?.throwIfAborted();
    if (signal !== undefined && body !== undefined) addAbortSignal(signal, body);
    return await work();
  } catch (error) {
    body?.destroy();
    signal?.throwIfAborted();
    throw error;
  }
}
