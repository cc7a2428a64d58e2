import type { Layout } from '../layout.ts';
import type { DeployedQueue } from '../observe.ts';
import { CPU_CONCURRENCY } from '../services/cpu-service.ts';
import type { Change, Step } from '../step.ts';

/** docs/operations.md says why. */
const SETTINGS = {
  maxAttempts: -1,
  maxRetryDuration: '0s',
  minBackoff: '10s',
  maxBackoff: '300s',
  maxDoublings: 5,
};

/** What Cloud Tasks sets by itself. */
const USUAL_RATE = 500;
/** How many requests Mistral takes is a matter of the account. A burst of jobs is to begin one after the other. */
const MISTRAL_RATE = 1;

/** Dispatches a second of each queue of `queueSizes`. */
export function queueRate({ environment, queues }: Layout, name: string): number {
  const isMistral = environment.backends.some(
    (backend) => backend.kind === 'voxtral' && queues.backends[backend.name] === name,
  );
  return isMistral ? MISTRAL_RATE : USUAL_RATE;
}

/** How many tasks each queue lets out at a time: as many as there can be instances to take them. */
export function queueSizes(layout: Layout): Map<string, number> {
  const { cpuService, backends } = layout.environment;
  return new Map([
    [layout.queues.cpu, CPU_CONCURRENCY * cpuService.maxInstances],
    ...backends.flatMap(({ name, maxRunning }): [string, number][] => {
      const queue = layout.queues.backends[name];
      return queue === undefined ? [] : [[queue, maxRunning]];
    }),
  ]);
}

export const createQueues: Step = {
  title: 'queues',
  changes({ queues }, { layout }) {
    return [...queueSizes(layout)].flatMap(([name, size]): Change[] => {
      const found = queues.get(name);
      const rate = queueRate(layout, name);
      const wrong = found === undefined ? [] : differences(found, size, rate);
      if (found !== undefined && wrong.length === 0) return [];
      return [
        {
          title: found === undefined ? `make the queue ${name}` : `correct the queue ${name}`,
          details: wrong,
          commands: [
            {
              args: [
                'tasks',
                'queues',
                found === undefined ? 'create' : 'update',
                name,
                `--location=${layout.region}`,
                `--max-concurrent-dispatches=${size}`,
                `--max-dispatches-per-second=${rate}`,
                `--max-attempts=${SETTINGS.maxAttempts}`,
                `--max-retry-duration=${SETTINGS.maxRetryDuration}`,
                `--min-backoff=${SETTINGS.minBackoff}`,
                `--max-backoff=${SETTINGS.maxBackoff}`,
                `--max-doublings=${SETTINGS.maxDoublings}`,
              ],
            },
          ],
        },
      ];
    });
  },
};

function differences(
  { rateLimits = {}, retryConfig = {} }: DeployedQueue,
  size: number,
  rate: number,
): string[] {
  const wanted = { ...SETTINGS, maxConcurrentDispatches: size, maxDispatchesPerSecond: rate };
  // What Google does not tell is as it sets it by itself.
  const found: Record<string, unknown> = {
    maxRetryDuration: '0s',
    maxDispatchesPerSecond: USUAL_RATE,
    ...rateLimits,
    ...retryConfig,
  };
  return Object.entries(wanted)
    .filter(([name, value]) => String(found[name]) !== String(value))
    .flatMap(([name, value]) => [`- ${name}: ${found[name] ?? '(default)'}`, `+ ${name}: ${value}`]);
}
