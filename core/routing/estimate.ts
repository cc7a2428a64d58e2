import { billedSeconds } from '../costs/instance-bill.ts';
import { type Platform, type ServicePlatform, workSeconds } from '../costs/platform-models.ts';
import { type Demand, expectCompany } from './expect-company.ts';
import { type PlatformState, placesOf } from './platform-state.ts';

export interface Candidate {
  name: string;
  platform: Platform;
  state: PlatformState;
}

export interface RoutedJob {
  audioSeconds: number;
  /** null: it may take as long as it takes. */
  secondsLeft: number | null;
}

export interface Estimate {
  backend: string;
  /** What its work costs there, and its part of what an instance costs while it starts and idles. */
  expectedUsd: number;
  beginsInSeconds: number;
  doneInSeconds: number;
  /** What it meets there: something that has nothing to do, is started for it, or has other work first. */
  meets: 'idle' | 'start' | 'queue';
  /** Of an instance that several may use: how many are expected to, with this one. */
  sharedBy: number | null;
}

export interface Choice {
  chosen: Estimate;
  isInTime: boolean;
  /** In the order of the candidates. */
  estimates: readonly Estimate[];
}

/** A deadline counts as met by an estimate that may be wrong by so much. */
export const CAUTION = 1.2;

/** Of those that meet the deadline the cheapest; where none does, the one that is done first. */
export function chooseCheapest(candidates: readonly Candidate[], demand: Demand, job: RoutedJob): Choice {
  const estimates = candidates.map((one) => estimate(one, candidates, demand, job.audioSeconds));
  const { secondsLeft } = job;
  const inTime = estimates.filter(
    ({ doneInSeconds }) => secondsLeft === null || doneInSeconds * CAUTION <= secondsLeft,
  );
  const isInTime = inTime.length > 0;
  const chosen = isInTime
    ? least(inTime, ({ expectedUsd }) => expectedUsd)
    : least(estimates, ({ doneInSeconds }) => doneInSeconds);
  return { chosen, isInTime, estimates };
}

function estimate(
  candidate: Candidate,
  all: readonly Candidate[],
  demand: Demand,
  audioSeconds: number,
): Estimate {
  const { name, platform, state } = candidate;
  const { most, startSeconds } = placesOf(platform);
  const there = state.busy.length + state.idle.length;
  const isStarted = platform.kind === 'service' || platform.kind === 'run';
  const isRoom = there < most;
  const meets = state.idle.length > 0 || (isRoom && !isStarted) ? 'idle' : isRoom ? 'start' : 'queue';
  const others = all.filter((one) => one !== candidate).map((one) => one.platform);
  const cost =
    platform.kind === 'service'
      ? usdOfService(platform, state, meets, { audioSeconds, demand, others })
      : { expectedUsd: usdAlone(platform, audioSeconds), sharedBy: null };
  const begins =
    (meets === 'queue' ? Math.min(...state.busy) : 0) +
    // A machine is started for each run, also where others were first.
    (meets === 'start' || platform.kind === 'run' ? startSeconds : 0) +
    state.waitingSeconds / most;
  const doneInSeconds = begins + workSeconds(platform, audioSeconds);
  return { backend: name, ...cost, beginsInSeconds: begins, doneInSeconds, meets };
}

/** What a recording costs that comes alone. */
export function usdAlone(platform: Platform, audioSeconds: number): number {
  const work = workSeconds(platform, audioSeconds);
  switch (platform.kind) {
    case 'service': {
      const { metering, coldStartSeconds, idleTailSeconds } = platform;
      return billedSeconds(coldStartSeconds + work + idleTailSeconds, metering) * metering.usdPerSecond;
    }
    case 'run': {
      const { metering, coldStartSeconds, preemptionsPerHour, lostSecondsPerPreemption } = platform;
      const losses = (work / 3_600) * preemptionsPerHour;
      const seconds = coldStartSeconds + work + losses * (coldStartSeconds + lostSecondsPerPreemption);
      return billedSeconds(seconds, metering) * metering.usdPerSecond;
    }
    case 'server':
      // Its rent is paid in any case.
      return 0;
    case 'api':
      return audioSeconds * platform.usdPerAudioSecond;
  }
}

function usdOfService(
  service: ServicePlatform,
  state: PlatformState,
  meets: Estimate['meets'],
  { audioSeconds, demand, others }: { audioSeconds: number; demand: Demand; others: readonly Platform[] },
): Pick<Estimate, 'expectedUsd' | 'sharedBy'> {
  const { metering, coldStartSeconds, idleTailSeconds } = service;
  const usdOfWork = (seconds: number) => workSeconds(service, seconds) * metering.usdPerSecond;
  const there = state.busy.length + state.idle.length;
  // Always-on instances are paid in any case.
  if (meets !== 'start' && there <= service.minInstances) return { expectedUsd: 0, sharedBy: null };
  const work = usdOfWork(audioSeconds);
  // Whether it works now or later, it idles as long.
  if (meets === 'queue') return { expectedUsd: work, sharedBy: null };

  const isCheaper = (seconds: number) => {
    const here = usdOfWork(seconds);
    return others.every((other) => here < usdAlone(other, seconds));
  };
  // Nothing is started for a recording that another does for less than its mere work: then nobody needs to look ahead.
  const isHopeless = meets === 'start' && !isCheaper(audioSeconds);
  const company = expectCompany(service, isHopeless ? [] : [{ agoSeconds: 0, audioSeconds }, ...demand], {
    instances: meets === 'start' ? there + 1 : there,
    isCheaper,
  });
  // Used for n + 1 jobs an instance starts once, idles before n of them, and has one tail.
  const sharedBy = company.jobs + 1;
  const shared = (coldStartSeconds + idleTailSeconds + company.jobs * company.idleSeconds) / sharedBy;
  if (meets === 'start') return { expectedUsd: work + shared * metering.usdPerSecond, sharedBy };
  // It is there, and its tail is paid: that moves on by as long as it has been idle, unless the next job does that too.
  const moved = Math.min(...state.idle) / sharedBy;
  return { expectedUsd: work + Math.min(moved, shared) * metering.usdPerSecond, sharedBy };
}

function least<T>(all: readonly T[], of: (one: T) => number): T {
  return all.reduce((best, one) => (of(one) < of(best) ? one : best));
}
