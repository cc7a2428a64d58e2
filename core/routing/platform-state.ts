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
