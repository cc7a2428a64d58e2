import type { Platform } from '../core/costs/platform-models.ts';
import { type Simulation, simulatedPlatform } from './simulated-platform.ts';
import type { Workload } from './workload.ts';

/** One after the other in the order of their arrival, each as soon as a place is free for it. */
export function simulate(platform: Platform, { arrivals, horizonSeconds }: Workload, seed = 1): Simulation {
  const simulated = simulatedPlatform(platform, seed);
  for (const arrival of arrivals) simulated.admit(arrival);
  return simulated.finish(horizonSeconds);
}
