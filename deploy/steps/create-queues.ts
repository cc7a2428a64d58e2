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
      const wrong = found === undefined ? [] : differences(found, size);
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

function differences({ rateLimits = {}, retryConfig = {} }: DeployedQueue, size: number): string[] {
  const wanted = { ...SETTINGS, maxConcurrentDispatches: size };
  // No limit on the duration is not always told.
  const found: Record<string, unknown> = { maxRetryDuration: '0s', ...rateLimits, ...retryConfig };
  return Object.entries(wanted)
    .filter(([name, value]) => String(found[name]) !== String(value))
    .flatMap(([name, value]) => [`- ${name}: ${found[name] ?? '(default)'}`, `+ ${name}: ${value}`]);
}
