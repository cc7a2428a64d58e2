import { z } from 'zod';
import {
  ApiError,
  formatDuration,
  formatEnum,
  formatTimestamp,
  parseDurationMs,
  QUEUE_STATES,
} from './wire.ts';

export interface Queue {
  /** `projects/P/locations/L/queues/Q` */
  name: string;
  state: 'RUNNING' | 'PAUSED';
  rateLimits: { maxDispatchesPerSecond: number; maxBurstSize: number; maxConcurrentDispatches: number };
  retryConfig: {
    /** -1: no limit. */
    maxAttempts: number;
    /** 0: no limit. */
    maxRetryDurationMs: number;
    minBackoffMs: number;
    maxBackoffMs: number;
    maxDoublings: number;
  };
  purgedMs: number | null;
  /** The name cannot be taken again for days. */
  deletedMs: number | null;
}

/** A queue as a client writes it. What it leaves out gets the service's default. */
export const QueueSettings = z.object({
  rateLimits: z
    .object({
      maxDispatchesPerSecond: z.number().default(500),
      maxConcurrentDispatches: z.number().default(1_000),
    })
    .prefault({}),
  retryConfig: z
    .object({
      maxAttempts: z.number().default(100),
      maxRetryDuration: z.string().default('0s'),
      minBackoff: z.string().default('0.1s'),
      maxBackoff: z.string().default('3600s'),
      maxDoublings: z.number().default(16),
    })
    .prefault({}),
});
export type QueueSettings = z.input<typeof QueueSettings>;

const QUEUE_NAME = /^projects\/[A-Za-z0-9:.-]+\/locations\/[A-Za-z0-9-]+\/queues\/[A-Za-z0-9-]{1,100}$/;
export function newQueue(name: string, input: unknown): Queue {
  if (!QUEUE_NAME.test(name)) {
    throw new ApiError(
      'INVALID_ARGUMENT',
      'Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".',
    );
  }
  const { rateLimits: rate, retryConfig: retry } = QueueSettings.parse(input);
  const queue: Queue = {
    name,
    state: 'RUNNING',
    rateLimits: { ...rate, maxBurstSize: burstSize(rate.maxDispatchesPerSecond) },
    retryConfig: {
      maxAttempts: retry.maxAttempts,
      maxRetryDurationMs: parseDurationMs(retry.maxRetryDuration),
      minBackoffMs: parseDurationMs(retry.minBackoff),
      maxBackoffMs: parseDurationMs(retry.maxBackoff),
      maxDoublings: retry.maxDoublings,
    },
    purgedMs: null,
    deletedMs: null,
  };
  check(queue);
  return queue;
}

/** What stands in `mask` (all, when it is empty) comes from `input`; a field that `input` leaves out gets its default. */
export function updateQueue(queue: Queue, input: unknown, mask: readonly string[]): Queue {
  const settings = QueueSettings.parse(input);
  const present = settingsOf(queue);
  const isUpdated = (path: string) =>
    mask.length === 0 || mask.some((field) => path === field || path.startsWith(`${field}.`));
  const merge = (section: 'rateLimits' | 'retryConfig') =>
    Object.fromEntries([
      ...Object.entries(present[section]).filter(([field]) => !isUpdated(`${section}.${field}`)),
      ...Object.entries(settings[section]).filter(([field]) => isUpdated(`${section}.${field}`)),
    ]);
  const updated = newQueue(queue.name, {
    rateLimits: merge('rateLimits'),
    retryConfig: merge('retryConfig'),
  });
  return { ...updated, state: queue.state, purgedMs: queue.purgedMs };
}

export function renderQueue(queue: Queue, isNumeric: boolean): object {
  const { rateLimits, retryConfig } = settingsOf(queue);
  return {
    name: queue.name,
    rateLimits: { ...rateLimits, maxBurstSize: queue.rateLimits.maxBurstSize },
    retryConfig,
    state: formatEnum(QUEUE_STATES, queue.state, isNumeric),
    ...(queue.purgedMs !== null && { purgeTime: formatTimestamp(queue.purgedMs) }),
  };
}

function settingsOf({ rateLimits, retryConfig }: Queue) {
  const { maxDispatchesPerSecond, maxConcurrentDispatches } = rateLimits;
  return {
    rateLimits: { maxDispatchesPerSecond, maxConcurrentDispatches },
    retryConfig: {
      maxAttempts: retryConfig.maxAttempts,
      maxRetryDuration: formatDuration(retryConfig.maxRetryDurationMs),
      minBackoff: formatDuration(retryConfig.minBackoffMs),
      maxBackoff: formatDuration(retryConfig.maxBackoffMs),
      maxDoublings: retryConfig.maxDoublings,
    },
  };
}

/** Google does not say how it picks the burst. Known are 100 for 500 a second, and 10 for slow queues. */
function burstSize(maxDispatchesPerSecond: number): number {
  return Math.max(10, Math.min(100, Math.ceil(maxDispatchesPerSecond / 5)));
}

/** The texts are those of the real service. */
function check({ rateLimits, retryConfig }: Queue): void {
  const { maxDispatchesPerSecond, maxConcurrentDispatches } = rateLimits;
  const { maxAttempts, minBackoffMs, maxBackoffMs, maxDoublings } = retryConfig;
  const rules: [isBroken: boolean, message: string][] = [
    [maxDispatchesPerSecond < 0, 'RateLimits.maxDispatchesPerSecond cannot be negative.'],
    [maxDispatchesPerSecond > 500, 'RateLimits.maxDispatchesPerSecond must be less than or equal to 500.'],
    [maxConcurrentDispatches < 0, 'RateLimits.maxConcurrentDispatches cannot be negative.'],
    [
      maxConcurrentDispatches > 5_000,
      'RateLimits.maxConcurrentDispatches must be less than or equal to 5000.',
    ],
    [maxAttempts < -1, 'RetryConfig.maxAttempts must be greater or equal to -1.'],
    [maxDoublings < 0, 'RetryConfig.maxDoublings cannot be negative.'],
    [minBackoffMs < 0, 'RetryConfig.minBackoff cannot be negative.'],
    [
      minBackoffMs > maxBackoffMs,
      'RetryConfig.minBackoff must be less than or equal to RetryConfig.maxBackoff.',
    ],
  ];
  const broken = rules.find(([isBroken]) => isBroken);
  if (broken !== undefined) throw new ApiError('INVALID_ARGUMENT', broken[1]);
}
