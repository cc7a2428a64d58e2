import { type Backend, flexStartSeconds } from '../backends.ts';
import { backendRate } from '../costs/backend-rate.ts';
import { audioPrice } from '../costs/job-cost.ts';
import { ASSUMED, type Platform, platforms, type Speed } from '../costs/platform-models.ts';
import { type Prices, usdPerSecond } from '../costs/prices.ts';

/** As long as flex-start waits for a machine that may wait for ever. */
const FOREVER_SECONDS = 7 * 24 * 3_600;
/** A CPU with the model that a machine without a GPU has. */
const CPU = { realtimeFactor: 2, overheadSeconds: 5 } as const satisfies Speed;

/**
 * How a backend works and is paid: as it says itself, else as it was measured, else as is assumed everywhere.
 * @param model which would do the job there; null where nobody knows
 */
export function platformOf(
  backend: Backend,
  { prices, measured, model }: { prices: Prices; measured: Speed | undefined; model: string | null },
): Platform {
  const { expected, max_running: maxRunning } = backend;
  const assumed = platforms({
    ...ASSUMED,
    prices,
    coldStartSeconds: expected?.cold_start_seconds ?? ASSUMED.coldStartSeconds,
    idleTailSeconds: expected?.idle_tail_seconds ?? ASSUMED.idleTailSeconds,
    maxGpus: maxRunning ?? ASSUMED.maxGpus,
  });
  const rate = backendRate(backend, prices);
  const paid = rate !== undefined && 'metering' in rate ? { metering: rate.metering } : {};
  const speedOr = (otherwise: Speed): Speed => {
    if (measured !== undefined) return measured;
    const realtimeFactor = expected?.realtime_factor ?? otherwise.realtimeFactor;
    return { realtimeFactor, overheadSeconds: otherwise.overheadSeconds };
  };
  switch (backend.kind) {
    case 'cloud-run-service': {
      const service = { ...assumed['cloud-run-service'], ...paid, ...speedOr(ASSUMED.gpu) };
      return { ...service, minInstances: backend.min_instances ?? service.minInstances };
    }
    case 'cloud-run-job':
      return { ...assumed['cloud-run-job'], ...paid, ...speedOr(ASSUMED.gpu) };
    case 'vertex-job': {
      const isSpot = rate?.price.endsWith('-spot');
      const job = { ...assumed[isSpot ? 'vertex-spot' : 'vertex-job'], ...paid, ...speedOr(ASSUMED.gpu) };
      const waitSeconds = Math.min(flexStartSeconds(backend), FOREVER_SECONDS);
      return { ...job, provisioningSeconds: Math.max(job.provisioningSeconds, waitSeconds) };
    }
    case 'voxtral': {
      const { voxtral } = assumed;
      return {
        ...voxtral,
        ...speedOr(ASSUMED.voxtral),
        usdPerAudioSecond: usdPerSecond(prices[audioPrice(model)]),
        maxConcurrent: maxRunning ?? voxtral.maxConcurrent,
      };
    }
    case 'server':
      return { ...assumed.server, ...speedOr(ASSUMED.gpu), workers: maxRunning ?? 1 };
    case 'standalone':
      return { kind: 'server', usdPerSecond: 0, workers: maxRunning ?? 1, ...speedOr(CPU) };
  }
}
