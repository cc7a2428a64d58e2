import { CLOUD_RUN_METERING, type Metering } from './instance-bill.ts';
import { cloudRunUsdPerSecond, type Prices, usdPerSecond } from './prices.ts';

/** How fast an engine is, measured or assumed. */
export interface Speed {
  /** Seconds of audio that one second of work does. */
  realtimeFactor: number;
  /** What each job takes besides, however short it is. */
  overheadSeconds: number;
}

export function workSeconds({ realtimeFactor, overheadSeconds }: Speed, audioSeconds: number): number {
  return overheadSeconds + audioSeconds / realtimeFactor;
}

/**
 * Instances that do one job at a time, start when there is work for them, and stay for a while after it: Cloud Run
 * services. With `minInstances` some are always there.
 */
export interface ServicePlatform extends Speed {
  kind: 'service';
  metering: Metering;
  /** From the request to the first second of work; billed. */
  coldStartSeconds: number;
  idleTailSeconds: number;
  minInstances: number;
  maxInstances: number;
}

/** A machine for every job: Cloud Run jobs, Vertex AI custom jobs. */
export interface RunPlatform extends Speed {
  kind: 'run';
  metering: Metering;
  /** Until there is a machine; not billed. */
  provisioningSeconds: number;
  /** Until it works; billed. */
  coldStartSeconds: number;
  maxRunning: number;
  /** How often such a machine is taken away. What was not stored yet is done again, on a new one. */
  preemptionsPerHour: number;
  lostSecondsPerPreemption: number;
}

/** Rented by the month, whatever it does. */
export interface ServerPlatform extends Speed {
  kind: 'server';
  usdPerSecond: number;
  workers: number;
}

/** Paid by the minute of audio. */
export interface ApiPlatform extends Speed {
  kind: 'api';
  usdPerAudioSecond: number;
  maxConcurrent: number;
}

export type Platform = ServicePlatform | RunPlatform | ServerPlatform | ApiPlatform;

export interface PlatformAssumptions {
  prices: Prices;
  gpu: Speed;
  voxtral: Speed;
  /** Of an instance of Cloud Run with an L4. */
  shape: { vcpu: number; memoryGib: number };
  coldStartSeconds: number;
  idleTailSeconds: number;
  vertexProvisioningSeconds: number;
  preemptionsPerHour: number;
  /** GPUs that may be in use at a time, anywhere. */
  maxGpus: number;
}

/** What is assumed where nobody has measured. docs/economics.md says why. */
export const ASSUMED = {
  gpu: { realtimeFactor: 10, overheadSeconds: 5 },
  voxtral: { realtimeFactor: 60, overheadSeconds: 5 },
  shape: { vcpu: 8, memoryGib: 32 },
  coldStartSeconds: 60,
  idleTailSeconds: 600,
  vertexProvisioningSeconds: 240,
  preemptionsPerHour: 0.05,
  maxGpus: 3,
} as const satisfies Omit<PlatformAssumptions, 'prices'>;

export interface Platforms {
  'cloud-run-service': ServicePlatform;
  'cloud-run-service-min-1': ServicePlatform;
  'cloud-run-job': RunPlatform;
  'vertex-job': RunPlatform;
  'vertex-spot': RunPlatform;
  server: ServerPlatform;
  voxtral: ApiPlatform;
}
export type PlatformName = keyof Platforms;

/** Every way to run a job, in the order in which they are shown. */
export function platforms(assumed: PlatformAssumptions): Platforms {
  const { prices, gpu, voxtral, shape, coldStartSeconds, idleTailSeconds, maxGpus } = assumed;
  const cloudRun = { ...CLOUD_RUN_METERING, usdPerSecond: cloudRunUsdPerSecond(prices, shape) };
  const service = {
    kind: 'service',
    ...gpu,
    metering: cloudRun,
    coldStartSeconds,
    idleTailSeconds,
    maxInstances: maxGpus,
  } as const;
  const job = {
    kind: 'run',
    ...gpu,
    metering: cloudRun,
    provisioningSeconds: 0,
    coldStartSeconds,
    maxRunning: maxGpus,
    preemptionsPerHour: 0,
    lostSecondsPerPreemption: 0,
  } as const;
  const vertex = {
    ...job,
    metering: {
      usdPerSecond: usdPerSecond(prices['vertex-g2-standard-8']),
      minimumSeconds: 60,
      stepSeconds: 1,
    },
    provisioningSeconds: assumed.vertexProvisioningSeconds,
  };
  return {
    'cloud-run-service': { ...service, minInstances: 0 },
    'cloud-run-service-min-1': { ...service, minInstances: 1 },
    'cloud-run-job': job,
    'vertex-job': vertex,
    'vertex-spot': {
      ...vertex,
      metering: { ...vertex.metering, usdPerSecond: usdPerSecond(prices['vertex-g2-standard-8-spot']) },
      preemptionsPerHour: assumed.preemptionsPerHour,
      // Half of the time between two checkpoints, and the batch it was in.
      lostSecondsPerPreemption: 10,
    },
    server: { kind: 'server', ...gpu, usdPerSecond: usdPerSecond(prices['server-month']), workers: 1 },
    voxtral: {
      kind: 'api',
      ...voxtral,
      usdPerAudioSecond: usdPerSecond(prices['voxtral-mini']),
      maxConcurrent: 10,
    },
  };
}
