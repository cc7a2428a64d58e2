import type { Platform } from '../core/costs/platform-models.ts';
import { chooseCheapest } from '../core/routing/estimate.ts';
import type { Demand } from '../core/routing/expect-company.ts';
import { DEMAND_LENGTH, demandSinceMs } from '../core/routing/read-state.ts';
import { type SimulatedJob, type Simulation, simulatedPlatform } from './simulated-platform.ts';
import type { Workload } from './workload.ts';

export interface RoutedSimulation {
  /** In the order of their arrival. */
  jobs: readonly (SimulatedJob & { platform: string })[];
  billUsd: number;
  platforms: Readonly<Record<string, Simulation>>;
}

/** The same recordings, each sent where the service's own routing sends it. */
export function simulateRouted(
  platforms: Readonly<Record<string, Platform>>,
  { arrivals, horizonSeconds }: Workload,
  { secondsToDeadline = null, seed = 1 }: { secondsToDeadline?: number | null; seed?: number } = {},
): RoutedSimulation {
  const all = Object.entries(platforms).map(([name, platform]) => ({
    name,
    platform,
    simulated: simulatedPlatform(platform, seed),
  }));
  const names = arrivals.map((arrival, i) => {
    const now = arrival.atSeconds;
    const since = demandSinceMs(now * 1_000) / 1_000;
    const demand: Demand = arrivals
      .slice(Math.max(0, i - DEMAND_LENGTH), i)
      .filter(({ atSeconds }) => atSeconds >= since)
      .reverse()
      .map(({ atSeconds, audioSeconds }) => ({ agoSeconds: now - atSeconds, audioSeconds }));
    const candidates = all.map(({ name, platform, simulated }) => ({
      name,
      platform,
      state: simulated.stateAt(now),
    }));
    const job = { audioSeconds: arrival.audioSeconds, secondsLeft: secondsToDeadline };
    const { chosen } = chooseCheapest(candidates, demand, job);
    all.find(({ name }) => name === chosen.backend)?.simulated.admit(arrival);
    return chosen.backend;
  });
  const finished = all.map(({ name, simulated }) => [name, simulated.finish(horizonSeconds)] as const);
  const left = new Map(finished.map(([name, { jobs }]) => [name, jobs.values()]));
  return {
    jobs: names.map((platform) => ({ ...(left.get(platform)?.next().value as SimulatedJob), platform })),
    billUsd: finished.reduce((sum, [, { billUsd }]) => sum + billUsd, 0),
    platforms: Object.fromEntries(finished),
  };
}
