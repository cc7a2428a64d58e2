import type { Instance } from '../costs/instances.ts';
import { type Platform, type ServicePlatform, workSeconds } from '../costs/platform-models.ts';

/** How things stand at one platform. */
export interface PlatformState {
  /** Of each instance, run or call that is at work: the seconds until it is free. */
  busy: readonly number[];
  /** Of each instance that waits for work: the seconds since it has had none. */
  idle: readonly number[];
  /** Work that has been given to the platform, and to none of these yet. */
  waitingSeconds: number;
}

export const AT_REST: PlatformState = { busy: [], idle: [], waitingSeconds: 0 };

/** A job that a backend was given and has not ended. */
export interface GivenJob {
  secondsAgo: number;
  audioSeconds: number;
}

/** From what is known of it: which jobs it was given, and the signs of life of its instances. */
export function stateOf(
  platform: Platform,
  given: readonly GivenJob[],
  instances: readonly Pick<Instance, 'busy_since' | 'idle_since' | 'beat_at' | 'ageMs'>[],
): PlatformState {
  if (platform.kind === 'service') return stateOfService(platform, given, instances);
  const { most, startSeconds } = placesOf(platform);
  const oldestFirst = given.toSorted((one, other) => other.secondsAgo - one.secondsAgo);
  return {
    busy: oldestFirst
      .slice(0, most)
      .map(({ audioSeconds, secondsAgo }) =>
        Math.max(0, startSeconds + workSeconds(platform, audioSeconds) - secondsAgo),
      ),
    idle: [],
    waitingSeconds: oldestFirst
      .slice(most)
      .reduce((sum, { audioSeconds }) => sum + workSeconds(platform, audioSeconds), 0),
  };
}

/** Nobody says which instance has which job: each is taken to have one of middling length. */
function stateOfService(
  service: ServicePlatform,
  given: readonly GivenJob[],
  instances: Parameters<typeof stateOf>[2],
): PlatformState {
  const work = given.reduce((sum, { audioSeconds }) => sum + workSeconds(service, audioSeconds), 0);
  const each = given.length === 0 ? 0 : work / given.length;
  const sinceOf = (time: string | null, one: (typeof instances)[number]) =>
    // Its own clock tells what was between its own signs, and the store's how old the last is.
    time === null ? [] : [Math.max(0, (Date.parse(one.beat_at) - Date.parse(time) + one.ageMs) / 1_000)];
  const atWork = instances.flatMap((one) => sinceOf(one.busy_since, one));
  const idle = instances
    .flatMap((one) => (one.busy_since === null ? sinceOf(one.idle_since, one) : []))
    .toSorted((one, other) => one - other);
  // Those that no instance has taken yet go to idle ones, start others, or wait.
  const untaken = Math.max(0, given.length - atWork.length);
  const taking = Math.min(untaken, idle.length);
  const room = Math.max(0, service.maxInstances - atWork.length - idle.length);
  const starting = Math.min(untaken - taking, room);
  return {
    busy: [
      ...atWork.map((seconds) => Math.max(0, each - seconds)),
      ...new Array<number>(taking).fill(each),
      ...new Array<number>(starting).fill(service.coldStartSeconds + each),
    ],
    idle: idle.slice(taking),
    waitingSeconds: (untaken - taking - starting) * each,
  };
}

/** How many jobs it does at a time, and how long each place needs until it works. */
export function placesOf(platform: Platform): { most: number; startSeconds: number } {
  switch (platform.kind) {
    case 'service':
      return { most: platform.maxInstances, startSeconds: platform.coldStartSeconds };
    case 'run':
      return {
        most: platform.maxRunning,
        startSeconds: platform.provisioningSeconds + platform.coldStartSeconds,
      };
    case 'server':
      return { most: platform.workers, startSeconds: 0 };
    case 'api':
      return { most: platform.maxConcurrent, startSeconds: 0 };
  }
}
