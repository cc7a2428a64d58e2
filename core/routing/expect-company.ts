import { type ServicePlatform, workSeconds } from '../costs/platform-models.ts';

/** Recordings that came before, the newest first. */
export type Demand = readonly { agoSeconds: number; audioSeconds: number }[];

/** What is expected of an instance that is there now. */
export interface Company {
  /** How many jobs it still does before it is left alone for longer than its tail. */
  jobs: number;
  /** How long it idles before each of them. */
  idleSeconds: number;
}

/** The weight of a gap against that of the one after it. */
const FORGETTING = 0.98;
/** As if a part of a gap had been seen that was too long: a service that nobody has used is not started. */
const DOUBT = 0.5;

/**
 * An instance stays while the gaps between recordings are shorter than the work and the tail. So for each gap that was
 * longer, as many jobs are expected as gaps were shorter: those of lately, and of recordings that the service does
 * cheaper than others could.
 */
export function expectCompany(
  service: ServicePlatform,
  demand: Demand,
  { instances, isCheaper }: { instances: number; isCheaper: (audioSeconds: number) => boolean },
): Company {
  const suited = demand.filter(({ audioSeconds }) => isCheaper(audioSeconds));
  // Of several instances each gets one in so many.
  const sharing = Math.max(instances, Math.min(service.maxInstances, inUseAtATime(service, suited)));
  let weight = 1;
  let short = 0;
  let long = DOUBT;
  let idle = 0;
  for (const { gapSeconds, work } of gaps(service, suited, sharing)) {
    const idleSeconds = Math.max(0, gapSeconds - work);
    if (idleSeconds < service.idleTailSeconds) {
      short += weight;
      idle += weight * idleSeconds;
    } else {
      long += weight;
    }
    weight *= FORGETTING;
  }
  return { jobs: short / long, idleSeconds: short === 0 ? 0 : idle / short };
}

/** How many recordings come while one is worked on: for those that find none idle, further instances are started. */
function inUseAtATime(service: ServicePlatform, demand: Demand): number {
  const close = gaps(service, demand, 1).filter(
    ({ gapSeconds, work }) => gapSeconds < work + service.idleTailSeconds,
  );
  const sum = (of: (one: (typeof close)[number]) => number) => close.reduce((all, one) => all + of(one), 0);
  return close.length === 0 ? 1 : Math.ceil(sum(({ work }) => work) / sum(({ gapSeconds }) => gapSeconds));
}

/** Between each recording and the one that came `apart` before it, and what that one took. */
function gaps(service: ServicePlatform, demand: Demand, apart: number) {
  return demand.slice(0, -apart).map(({ agoSeconds }, i) => {
    const before = demand[i + apart] as Demand[number];
    return { gapSeconds: before.agoSeconds - agoSeconds, work: workSeconds(service, before.audioSeconds) };
  });
}
