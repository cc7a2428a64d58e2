import { attribute, billedSeconds } from '../core/costs/instance-bill.ts';
import {
  type ApiPlatform,
  type Platform,
  type RunPlatform,
  type ServerPlatform,
  type ServicePlatform,
  type Speed,
  workSeconds,
} from '../core/costs/platform-models.ts';
import { mulberry32 } from '../core/mulberry32.ts';
import type { Arrival, Workload } from './workload.ts';

export interface SimulatedJob {
  arrivedAt: number;
  /** When its work began: after the queue and after any start of an instance. */
  startedAt: number;
  endedAt: number;
  audioSeconds: number;
  workSeconds: number;
  /** How long it kept an instance: its work, the start it caused, and what was done twice. */
  busySeconds: number;
  /** Of its own seconds alone: what it adds where an instance is there anyway. */
  marginalUsd: number;
  /** Its share of the whole bill. */
  attributedUsd: number;
}

export interface Simulation {
  /** In the order of their arrival. */
  jobs: readonly SimulatedJob[];
  billUsd: number;
  /** The part of it that nobody's recordings change. */
  fixedUsd: number;
  /** Instances that were billed, each from its start to the end of its tail; an always-on one is there throughout. */
  instances: readonly { startedAt: number; endedAt: number; billedSeconds: number; jobs: number }[];
  /** The share of what was paid for that was work. */
  utilisation: number | null;
}

type Served = Omit<SimulatedJob, 'marginalUsd' | 'attributedUsd'>;

/** One after the other in the order of their arrival, each as soon as a place is free for it. */
export function simulate(platform: Platform, workload: Workload, seed = 1): Simulation {
  switch (platform.kind) {
    case 'service':
      return simulateService(platform, workload);
    case 'run':
      return simulateRuns(platform, workload, seed);
    case 'server':
      return simulateServer(platform, workload);
    case 'api':
      return simulateApi(platform, workload);
  }
}

interface Instance {
  startedAt: number;
  freeAt: number;
  isAlwaysOn: boolean;
  served: Served[];
}

function simulateService(platform: ServicePlatform, { arrivals, horizonSeconds }: Workload): Simulation {
  const { metering, coldStartSeconds, idleTailSeconds, minInstances, maxInstances } = platform;
  const all: Instance[] = Array.from({ length: minInstances }, () => ({
    startedAt: 0,
    freeAt: 0,
    isAlwaysOn: true,
    served: [],
  }));
  const jobs: Served[] = [];
  let live = [...all];
  for (const arrival of arrivals) {
    const now = arrival.atSeconds;
    live = live.filter(({ freeAt, isAlwaysOn }) => isAlwaysOn || freeAt + idleTailSeconds > now);
    // The one that was used last: the others may come to their ends.
    const idle = live.filter(({ freeAt }) => freeAt <= now).sort((a, b) => b.freeAt - a.freeAt)[0];
    let instance = idle;
    let coldSeconds = 0;
    if (instance === undefined && live.length < maxInstances) {
      instance = { startedAt: now, freeAt: now, isAlwaysOn: false, served: [] };
      coldSeconds = coldStartSeconds;
      live.push(instance);
      all.push(instance);
    }
    instance ??= earliest(live, ({ freeAt }) => freeAt);
    const served = serve(platform, arrival, Math.max(now, instance.freeAt) + coldSeconds, coldSeconds);
    instance.freeAt = served.endedAt;
    instance.served.push(served);
    jobs.push(served);
  }

  const attributed = new Map<Served, number>();
  let billUsd = 0;
  let fixedUsd = 0;
  let paidSeconds = 0;
  const instances = all.map(({ startedAt, freeAt, isAlwaysOn, served }) => {
    const endedAt = isAlwaysOn ? Math.max(horizonSeconds, freeAt) : freeAt + idleTailSeconds;
    const seconds = billedSeconds(endedAt - startedAt, metering);
    const usd = seconds * metering.usdPerSecond;
    billUsd += usd;
    paidSeconds += seconds;
    if (isAlwaysOn) fixedUsd += usd;
    const shares = attribute(
      usd,
      served.map(({ busySeconds }) => busySeconds),
    );
    for (const [i, job] of served.entries()) attributed.set(job, shares[i] ?? 0);
    return { startedAt, endedAt, billedSeconds: seconds, jobs: served.length };
  });
  // What an idle always-on instance costs is everybody's.
  const unshared = billUsd - [...attributed.values()].reduce((sum, usd) => sum + usd, 0);
  const rest = attribute(
    unshared,
    jobs.map(({ busySeconds }) => busySeconds),
  );
  return {
    jobs: jobs.map((job, i) => ({
      ...job,
      marginalUsd: job.busySeconds * metering.usdPerSecond,
      attributedUsd: (attributed.get(job) ?? 0) + (rest[i] ?? 0),
    })),
    billUsd,
    fixedUsd,
    instances,
    utilisation: share(jobs, paidSeconds),
  };
}

function simulateRuns(platform: RunPlatform, { arrivals }: Workload, seed: number): Simulation {
  const { metering, provisioningSeconds, coldStartSeconds, maxRunning } = platform;
  const random = mulberry32(seed);
  const places = new Array<number>(maxRunning).fill(0);
  let billUsd = 0;
  let paidSeconds = 0;
  const instances: Simulation['instances'][number][] = [];
  const jobs = arrivals.map((arrival) => {
    const place = places.indexOf(Math.min(...places));
    const askedAt = Math.max(arrival.atSeconds, places[place] ?? 0);
    const work = workSeconds(platform, arrival.audioSeconds);
    // Each loss means another machine, which starts anew.
    const losses = preemptions(platform, work, random);
    const billed = (losses + 1) * coldStartSeconds + work + losses * platform.lostSecondsPerPreemption;
    const startedAt = askedAt + provisioningSeconds + coldStartSeconds;
    const endedAt = startedAt + billed - coldStartSeconds + losses * provisioningSeconds;
    places[place] = endedAt;
    const seconds = billedSeconds(billed, metering);
    const usd = seconds * metering.usdPerSecond;
    billUsd += usd;
    paidSeconds += seconds;
    instances.push({ startedAt: startedAt - coldStartSeconds, endedAt, billedSeconds: seconds, jobs: 1 });
    return {
      arrivedAt: arrival.atSeconds,
      startedAt,
      endedAt,
      audioSeconds: arrival.audioSeconds,
      workSeconds: work,
      busySeconds: billed,
      marginalUsd: usd,
      attributedUsd: usd,
    };
  });
  return { jobs, billUsd, fixedUsd: 0, instances, utilisation: share(jobs, paidSeconds) };
}

/** How often the machine of a job is taken away: losses come at any time with the same likelihood. */
function preemptions({ preemptionsPerHour }: RunPlatform, seconds: number, random: () => number): number {
  let losses = 0;
  if (preemptionsPerHour === 0) return losses;
  for (let left = seconds; ; losses++) {
    left -= (-Math.log(1 - random()) / preemptionsPerHour) * 3_600;
    if (left <= 0) return losses;
  }
}

function simulateServer(platform: ServerPlatform, { arrivals, horizonSeconds }: Workload): Simulation {
  const workers = new Array<number>(platform.workers).fill(0);
  const jobs = arrivals.map((arrival) => serveNext(platform, arrival, workers));
  const endedAt = Math.max(horizonSeconds, ...workers);
  const billUsd = endedAt * platform.usdPerSecond;
  const shares = attribute(
    billUsd,
    jobs.map(({ busySeconds }) => busySeconds),
  );
  return {
    // Another job adds nothing to the rent.
    jobs: jobs.map((job, i) => ({ ...job, marginalUsd: 0, attributedUsd: shares[i] ?? 0 })),
    billUsd,
    fixedUsd: billUsd,
    instances: [{ startedAt: 0, endedAt, billedSeconds: endedAt, jobs: jobs.length }],
    utilisation: share(jobs, endedAt * platform.workers),
  };
}

function simulateApi(platform: ApiPlatform, { arrivals }: Workload): Simulation {
  const places = new Array<number>(platform.maxConcurrent).fill(0);
  let billUsd = 0;
  const jobs = arrivals.map((arrival) => {
    const usd = arrival.audioSeconds * platform.usdPerAudioSecond;
    billUsd += usd;
    return { ...serveNext(platform, arrival, places), marginalUsd: usd, attributedUsd: usd };
  });
  return { jobs, billUsd, fixedUsd: 0, instances: [], utilisation: null };
}

function serveNext(speed: Speed, arrival: Arrival, places: number[]): Served {
  const place = places.indexOf(Math.min(...places));
  const served = serve(speed, arrival, Math.max(arrival.atSeconds, places[place] ?? 0), 0);
  places[place] = served.endedAt;
  return served;
}

function serve(speed: Speed, arrival: Arrival, startedAt: number, coldSeconds: number): Served {
  const work = workSeconds(speed, arrival.audioSeconds);
  return {
    arrivedAt: arrival.atSeconds,
    startedAt,
    endedAt: startedAt + work,
    audioSeconds: arrival.audioSeconds,
    workSeconds: work,
    busySeconds: coldSeconds + work,
  };
}

function earliest<T>(all: readonly T[], at: (one: T) => number): T {
  return all.reduce((first, one) => (at(one) < at(first) ? one : first));
}

function share(jobs: readonly Served[], paidSeconds: number): number | null {
  const work = jobs.reduce((sum, { workSeconds }) => sum + workSeconds, 0);
  return paidSeconds > 0 ? work / paidSeconds : null;
}
