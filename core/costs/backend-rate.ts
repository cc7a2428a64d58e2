import type { Backend } from '../backends.ts';
import { CLOUD_RUN_METERING, type Metering } from './instance-bill.ts';
import { ASSUMED } from './platform-models.ts';
import { cloudRunUsdPerSecond, type PriceName, type Prices, usdPerSecond } from './prices.ts';

/** How a backend is paid. */
export type BackendRate = {
  /** The price that says most of it, and where it holds. */
  price: PriceName;
  region: string;
} & (
  | {
      /** By instance: `shared` by whatever jobs it does until it ends, or of one job's `own`. */
      paid: 'shared' | 'own';
      metering: Metering;
    }
  /** By the month, whatever it does. */
  | { paid: 'rent'; metering: Metering }
  /** By the second of audio: nothing of it runs with us. */
  | { paid: 'audio' }
);

/** A second of rent is a second of rent. */
const RENT_METERING = { minimumSeconds: 0, stepSeconds: 0.001 } as const;
/** As economics reckons: by the second, and a minute at least. */
const VERTEX_METERING = { minimumSeconds: 60, stepSeconds: 1 } as const;

/** @returns nothing for one machine of one's own, whose time costs nothing here */
export function backendRate(backend: Backend, prices: Prices): BackendRate | undefined {
  switch (backend.kind) {
    case 'cloud-run-service':
    case 'cloud-run-job':
      return {
        paid: backend.kind === 'cloud-run-job' ? 'own' : 'shared',
        metering: { ...CLOUD_RUN_METERING, usdPerSecond: cloudRunUsdPerSecond(prices, shapeOf(backend)) },
        price: 'cloud-run-l4',
        region: regionOf(backend) ?? prices['cloud-run-l4'].region,
      };
    case 'vertex-job': {
      const price = vertexPrice(backend);
      return {
        paid: 'own',
        metering: { ...VERTEX_METERING, usdPerSecond: usdPerSecond(prices[price]) },
        price,
        region: regionOf(backend) ?? prices[price].region,
      };
    }
    case 'server':
      return {
        paid: 'rent',
        metering: { ...RENT_METERING, usdPerSecond: usdPerSecond(prices['server-month']) },
        price: 'server-month',
        region: regionOf(backend) ?? prices['server-month'].region,
      };
    case 'voxtral':
      return { paid: 'audio', price: 'voxtral-mini', region: prices['voxtral-mini'].region };
    case 'standalone':
      return undefined;
  }
}

/** What BACKENDS says of its instances, else what is assumed everywhere. */
function shapeOf({ shape }: Backend): { vcpu: number; memoryGib: number } {
  return {
    vcpu: typeof shape?.vcpu === 'number' ? shape.vcpu : ASSUMED.shape.vcpu,
    memoryGib: typeof shape?.memory_gib === 'number' ? shape.memory_gib : ASSUMED.shape.memoryGib,
  };
}

function regionOf(backend: Backend): string | undefined {
  if (typeof backend.shape?.region === 'string') return backend.shape.region;
  return 'job' in backend ? /\/locations\/([^/]+)/.exec(backend.job)?.[1] : undefined;
}

const VERTEX_MACHINES = ['g2-standard-4', 'g2-standard-8', 'g2-standard-12'] as const;

function vertexPrice({ shape, spec }: Extract<Backend, { kind: 'vertex-job' }>): PriceName {
  const [pool] = spec.workerPoolSpecs ?? [];
  const named =
    shape?.machine_type ?? (pool?.machineSpec as { machineType?: unknown } | undefined)?.machineType;
  const machine = VERTEX_MACHINES.find((one) => one === named) ?? 'g2-standard-8';
  const strategy = shape?.strategy ?? spec.scheduling?.strategy;
  return strategy === 'SPOT' ? `vertex-${machine}-spot` : `vertex-${machine}`;
}

/** Whether ingest, store and queue are paid for: all in one process on a machine of one's own they are not. */
export function isInTheCloud(backends: readonly Backend[]): boolean {
  return backends.every(({ kind }) => kind !== 'standalone');
}

/** Whether anything at all is. */
export function isBilled(backends: readonly Backend[]): boolean {
  return backends.some(({ kind }) => kind !== 'standalone');
}

/** Whether a job that this backend does costs more than one that is not done: rent is paid anyway. */
export function costsByTheJob({ kind }: Pick<Backend, 'kind'>): boolean {
  return kind !== 'standalone' && kind !== 'server';
}
