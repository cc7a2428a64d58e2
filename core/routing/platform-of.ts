import type { Backend } from '../backends.ts';
import { ASSUMED, type Platform, platforms, type Speed } from '../costs/platform-models.ts';
import type { Prices } from '../costs/prices.ts';

/** A CPU with the model that a machine without a GPU has. */
const CPU = { realtimeFactor: 2, overheadSeconds: 5 } as const satisfies Speed;

/** How a backend works and is paid: as it says itself, else as it was measured, else as is assumed everywhere. */
export function platformOf(
  backend: Backend,
  { prices, measured }: { prices: Prices; measured: Speed | undefined },
): Platform {
  const { expected, max_running: maxRunning } = backend;
  const assumed = platforms({
    ...ASSUMED,
    prices,
    shape: shapeOf(backend),
    coldStartSeconds: expected?.cold_start_seconds ?? ASSUMED.coldStartSeconds,
    idleTailSeconds: expected?.idle_tail_seconds ?? ASSUMED.idleTailSeconds,
    maxGpus: maxRunning ?? ASSUMED.maxGpus,
  });
  const speedOr = (otherwise: Speed): Speed => {
    if (measured !== undefined) return measured;
    const realtimeFactor = expected?.realtime_factor ?? otherwise.realtimeFactor;
    return { realtimeFactor, overheadSeconds: otherwise.overheadSeconds };
  };
  switch (backend.kind) {
    case 'cloud-run-service':
      return { ...assumed['cloud-run-service'], ...speedOr(ASSUMED.gpu) };
    case 'cloud-run-job':
      return { ...assumed['cloud-run-job'], ...speedOr(ASSUMED.gpu) };
    case 'vertex-job': {
      const isSpot = backend.spec.scheduling?.strategy === 'SPOT';
      return { ...assumed[isSpot ? 'vertex-spot' : 'vertex-job'], ...speedOr(ASSUMED.gpu) };
    }
    case 'voxtral': {
      const { voxtral } = assumed;
      return { ...voxtral, ...speedOr(ASSUMED.voxtral), maxConcurrent: maxRunning ?? voxtral.maxConcurrent };
    }
    case 'server':
      return { ...assumed.server, ...speedOr(ASSUMED.gpu), workers: maxRunning ?? 1 };
    case 'standalone':
      return { kind: 'server', usdPerSecond: 0, workers: maxRunning ?? 1, ...speedOr(CPU) };
  }
}

function shapeOf({ shape }: Backend): { vcpu: number; memoryGib: number } {
  return {
    vcpu: typeof shape?.vcpu === 'number' ? shape.vcpu : ASSUMED.shape.vcpu,
    memoryGib: typeof shape?.memory_gib === 'number' ? shape.memory_gib : ASSUMED.shape.memoryGib,
  };
}
