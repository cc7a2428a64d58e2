import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as (options: { type: 'minor' }) => void;

/** Small beside what a service needs anyway, and a thousandth of the time that sending it takes. */
const INTERVAL_BYTES = 8 * 2 ** 20;
let sinceBytes = 0;

/**
 * Call for every piece of a body that passes through. Each lies in memory of its own outside the heap, which V8 does
 * not count as garbage until there are 64 MB of it; collecting the young generation now and then takes a millisecond
 * and keeps an upload, of any size, from raising the memory of the service by more than a few of those intervals.
 */
export function passedThrough(sizeBytes: number): void {
  sinceBytes += sizeBytes;
  if (sinceBytes < INTERVAL_BYTES) return;
  sinceBytes = 0;
  collect({ type: 'minor' });
}
