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
import type { PlatformState } from '../core/routing/platform-state.ts';
import type { Arrival } from './workload.ts';

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

/** One platform that is given one recording after the other, in the order of their arrival. */
export interface SimulatedPlatform {
  admit(arrival: Arrival): void;
  /** As it is at that time, which is not before the last arrival. */
  stateAt(nowSeconds: number): PlatformState;
  /** What it all came to. */
  finish(horizonSeconds: number): Simulation;
}

type Served = Omit<SimulatedJob, 'marginalUsd' | 'attributedUsd'>;

export function simulatedPlatform(platform: Platform, seed: number): SimulatedPlatform {
  switch (platform.kind) {
    case 'service':
      return new SimulatedService(platform);
    case 'run':
      return new SimulatedRuns(platform, seed);
    case 'server':
      return new SimulatedServer(platform);
    case 'api':
      return new SimulatedApi(platform);
  }
}

interface Instance {
  startedAt: number;
  freeAt: number;
  isAlwaysOn: boolean;
  served: Served[];
}

class SimulatedService implements SimulatedPlatform {
  readonly #platform: ServicePlatform;
  readonly #all: Instance[];
  readonly #jobs: Served[] = [];
  #live: Instance[];

  constructor(platform: ServicePlatform) {
    this.#platform = platform;
    this.#all = Array.from({ length: platform.minInstances }, () => ({
      startedAt: 0,
      freeAt: 0,
      isAlwaysOn: true,
      served: [],
    }));
    this.#live = [...this.#all];
  }

  admit(arrival: Arrival): void {
    const now = arrival.atSeconds;
    this.#endTails(now);
    let instance: Instance | undefined;
    for (const one of this.#live) {
      // The one that was used last: the others may come to their ends.
      if (one.freeAt <= now && (instance === undefined || one.freeAt > instance.freeAt)) instance = one;
    }
    let coldSeconds = 0;
    if (instance === undefined && this.#live.length < this.#platform.maxInstances) {
      instance = { startedAt: now, freeAt: now, isAlwaysOn: false, served: [] };
      coldSeconds = this.#platform.coldStartSeconds;
      this.#live.push(instance);
      this.#all.push(instance);
    }
    instance ??= this.#live.reduce((first, one) => (one.freeAt < first.freeAt ? one : first));
    const startedAt = Math.max(now, instance.freeAt) + coldSeconds;
    const served = serve(this.#platform, arrival, startedAt, coldSeconds);
    instance.freeAt = served.endedAt;
    instance.served.push(served);
    this.#jobs.push(served);
  }

  stateAt(now: number): PlatformState {
    this.#endTails(now);
    const free = this.#live.map(({ freeAt }) => freeAt - now);
    return {
      busy: free.filter((seconds) => seconds > 0),
      idle: free.flatMap((seconds) => (seconds <= 0 ? [-seconds] : [])),
      waitingSeconds: 0,
    };
  }

  #endTails(now: number): void {
    const tail = this.#platform.idleTailSeconds;
    const isThere = ({ freeAt, isAlwaysOn }: Instance) => isAlwaysOn || freeAt + tail > now;
    if (!this.#live.every(isThere)) this.#live = this.#live.filter(isThere);
  }

  finish(horizonSeconds: number): Simulation {
    const { metering, idleTailSeconds } = this.#platform;
    const jobs = this.#jobs;
    const attributed = new Map<Served, number>();
    let billUsd = 0;
    let fixedUsd = 0;
    let paidSeconds = 0;
    const instances = this.#all.map(({ startedAt, freeAt, isAlwaysOn, served }) => {
      const endedAt = isAlwaysOn ? Math.max(horizonSeconds, freeAt) : freeAt + idleTailSeconds;
      const seconds = billedSeconds(endedAt - startedAt, metering);
      const usd = seconds * metering.usdPerSecond;
      billUsd += usd;
      paidSeconds += seconds;
      if (isAlwaysOn) fixedUsd += usd;
      const shares = attribute(usd, served.map(busySeconds));
      for (const [i, job] of served.entries()) attributed.set(job, shares[i] ?? 0);
      return { startedAt, endedAt, billedSeconds: seconds, jobs: served.length };
    });
    // What an idle always-on instance costs is everybody's.
    const unshared = billUsd - [...attributed.values()].reduce((sum, usd) => sum + usd, 0);
    const rest = attribute(unshared, jobs.map(busySeconds));
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
}

class SimulatedRuns implements SimulatedPlatform {
  readonly #platform: RunPlatform;
  readonly #random: () => number;
  readonly #places: number[];
  readonly #jobs: SimulatedJob[] = [];
  readonly #instances: Simulation['instances'][number][] = [];

  constructor(platform: RunPlatform, seed: number) {
    this.#platform = platform;
    this.#random = mulberry32(seed);
    this.#places = new Array<number>(platform.maxRunning).fill(0);
  }

  admit({ atSeconds, audioSeconds }: Arrival): void {
    const { metering, provisioningSeconds, coldStartSeconds, lostSecondsPerPreemption } = this.#platform;
    const place = firstFree(this.#places);
    const askedAt = Math.max(atSeconds, this.#places[place] ?? 0);
    const work = workSeconds(this.#platform, audioSeconds);
    // Each loss means another machine, which starts anew.
    const losses = preemptions(this.#platform, work, this.#random);
    const billed = (losses + 1) * coldStartSeconds + work + losses * lostSecondsPerPreemption;
    const startedAt = askedAt + provisioningSeconds + coldStartSeconds;
    const endedAt = startedAt + billed - coldStartSeconds + losses * provisioningSeconds;
    this.#places[place] = endedAt;
    const seconds = billedSeconds(billed, metering);
    const usd = seconds * metering.usdPerSecond;
    this.#instances.push({
      startedAt: startedAt - coldStartSeconds,
      endedAt,
      billedSeconds: seconds,
      jobs: 1,
    });
    this.#jobs.push({
      arrivedAt: atSeconds,
      startedAt,
      endedAt,
      audioSeconds,
      workSeconds: work,
      busySeconds: billed,
      marginalUsd: usd,
      attributedUsd: usd,
    });
  }

  stateAt(now: number): PlatformState {
    return placesAt(this.#places, now);
  }

  finish(): Simulation {
    const jobs = this.#jobs;
    const instances = this.#instances;
    const paidSeconds = instances.reduce((sum, one) => sum + one.billedSeconds, 0);
    const billUsd = jobs.reduce((sum, { attributedUsd }) => sum + attributedUsd, 0);
    return { jobs, billUsd, fixedUsd: 0, instances, utilisation: share(jobs, paidSeconds) };
  }
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

class SimulatedServer implements SimulatedPlatform {
  readonly #platform: ServerPlatform;
  readonly #workers: number[];
  readonly #jobs: Served[] = [];

  constructor(platform: ServerPlatform) {
    this.#platform = platform;
    this.#workers = new Array<number>(platform.workers).fill(0);
  }

  admit(arrival: Arrival): void {
    this.#jobs.push(serveNext(this.#platform, arrival, this.#workers));
  }

  stateAt(now: number): PlatformState {
    return placesAt(this.#workers, now);
  }

  finish(horizonSeconds: number): Simulation {
    const jobs = this.#jobs;
    const endedAt = Math.max(horizonSeconds, ...this.#workers);
    const billUsd = endedAt * this.#platform.usdPerSecond;
    const shares = attribute(billUsd, jobs.map(busySeconds));
    return {
      // Another job adds nothing to the rent.
      jobs: jobs.map((job, i) => ({ ...job, marginalUsd: 0, attributedUsd: shares[i] ?? 0 })),
      billUsd,
      fixedUsd: billUsd,
      instances: [{ startedAt: 0, endedAt, billedSeconds: endedAt, jobs: jobs.length }],
      utilisation: share(jobs, endedAt * this.#platform.workers),
    };
  }
}

class SimulatedApi implements SimulatedPlatform {
  readonly #platform: ApiPlatform;
  readonly #places: number[];
  readonly #jobs: SimulatedJob[] = [];

  constructor(platform: ApiPlatform) {
    this.#platform = platform;
    this.#places = new Array<number>(platform.maxConcurrent).fill(0);
  }

  admit(arrival: Arrival): void {
    const usd = arrival.audioSeconds * this.#platform.usdPerAudioSecond;
    const served = serveNext(this.#platform, arrival, this.#places);
    this.#jobs.push({ ...served, marginalUsd: usd, attributedUsd: usd });
  }

  stateAt(now: number): PlatformState {
    return placesAt(this.#places, now);
  }

  finish(): Simulation {
    const jobs = this.#jobs;
    const billUsd = jobs.reduce((sum, { attributedUsd }) => sum + attributedUsd, 0);
    return { jobs, billUsd, fixedUsd: 0, instances: [], utilisation: null };
  }
}

function placesAt(places: readonly number[], now: number): PlatformState {
  const busy = places.flatMap((freeAt) => (freeAt > now ? [freeAt - now] : []));
  return { busy, idle: [], waitingSeconds: 0 };
}

function firstFree(places: readonly number[]): number {
  return places.indexOf(Math.min(...places));
}

function serveNext(speed: Speed, arrival: Arrival, places: number[]): Served {
  const place = firstFree(places);
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

function busySeconds(job: Served): number {
  return job.busySeconds;
}

function share(jobs: readonly Served[], paidSeconds: number): number | null {
  const work = jobs.reduce((sum, job) => sum + job.workSeconds, 0);
  return paidSeconds > 0 ? work / paidSeconds : null;
}
