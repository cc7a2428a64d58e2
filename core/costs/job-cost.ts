import type { Backend } from '../backends.ts';
import { type Cost, type CostPart, isSettled, type JobRecord, type Usage } from '../job.ts';
import { toTheMillisecond } from '../to-the-millisecond.ts';
import { DEFAULT_VOXTRAL_MODEL, VOXTRAL_MODELS, type VoxtralModelName } from '../voxtral-models.ts';
import { type BackendRate, backendRate, isInTheCloud } from './backend-rate.ts';
import { billedSeconds, type Metering } from './instance-bill.ts';
import { estimateOperations } from './operations.ts';
import { type PriceName, type Prices, usdPerSecond } from './prices.ts';
import { storedBytes } from './stored-bytes.ts';
import { INGEST_BACKEND } from './usage.ts';

/** By what the cost of jobs is reckoned. */
export interface Pricing {
  backends: readonly Backend[];
  prices: Prices;
}

/**
 * What cpu-service has, unless deployed otherwise. It is billed while it has a request; its requests share it, so that
 * the sum over jobs that were there at the same time is more than the bill.
 */
const CPU_SERVICE = { vcpu: 2, memoryGib: 4 } as const;
const GIB = 2 ** 30;

/** What the job has cost so far. Pure: the same record, the same cost. */
export function jobCost(record: JobRecord, pricing: Pricing): Cost {
  const { backends, prices } = pricing;
  const isCloud = isInTheCloud(backends);
  const parts = record.usage.flatMap((usage) => partsOf(record, usage, pricing));
  if (isCloud) parts.push(operationsPart(record, prices));
  const unconfirmed = sum(
    record.usage.map((usage) => usage.unconfirmed_audio_seconds * audioUsdPerSecond(record, usage, prices)),
  );
  return {
    marginal_usd: rounded(sum(parts.map(({ usd }) => usd))),
    attributed_usd: isSettled(record.status) ? attributedUsd(parts, record.usage) : null,
    gpu_seconds: toTheMillisecond(sum(record.usage.map(({ gpu_seconds }) => gpu_seconds))),
    unconfirmed_usd: rounded(unconfirmed),
    storage_usd_per_month: isCloud ? rounded((storedBytes(record) / GIB) * prices['storage-gib'].usd) : 0,
    basis: basisOf(record, pricing),
    parts,
  };
}

/**
 * Puts the cost into a record that has just been settled. An instance that does one job alone is that job's, so its share
 * is known at once.
 */
export function settleCost(record: JobRecord, pricing: Pricing): void {
  for (const usage of record.usage) {
    const rate = rateOf(usage.backend, pricing);
    if (rate?.paid !== 'own') continue;
    for (const instance of usage.instances) {
      instance.attributed_usd = rounded(ownUsd(instance, rate.metering));
    }
  }
  record.cost = jobCost(record, pricing);
}

/**
 * The cost with the shares of instances' bills in place of what their seconds cost.
 * @returns null while a share is missing
 */
export function attributedUsd(parts: readonly CostPart[], usage: readonly Usage[]): number | null {
  const shares = usage.flatMap(({ instances }) => instances.map(({ attributed_usd }) => attributed_usd));
  if (shares.includes(null)) return null;
  const shared = new Set(usage.filter(({ instances }) => instances.length > 0).map(({ backend }) => backend));
  const others = parts.filter(
    ({ item, backend }) => item !== 'instance' || backend === null || !shared.has(backend),
  );
  return rounded(sum(others.map(({ usd }) => usd)) + sum(shares.map((usd) => usd ?? 0)));
}

function partsOf(record: JobRecord, usage: Usage, pricing: Pricing): CostPart[] {
  const { backend, busy_seconds, api_audio_seconds } = usage;
  const { prices } = pricing;
  const isCloud = isInTheCloud(pricing.backends);
  if (backend === INGEST_BACKEND) return isCloud ? [cpuPart('ingest', usage, prices)] : [];
  const rate = rateOf(backend, pricing);
  switch (rate?.paid) {
    case 'own':
    case 'shared': {
      const seconds = instanceSeconds(usage, rate);
      return [instancePart(backend, seconds, seconds * rate.metering.usdPerSecond)];
    }
    case 'rent':
      return [instancePart(backend, busy_seconds, 0)];
    case 'audio':
      return [
        {
          item: 'audio',
          backend,
          quantity: toTheMillisecond(api_audio_seconds),
          unit: 'second',
          usd: rounded(api_audio_seconds * audioUsdPerSecond(record, usage, prices)),
        },
        // cpu-service waits for the answers.
        ...(isCloud ? [cpuPart('calls', usage, prices)] : []),
      ];
    // It is no longer in BACKENDS.
    case undefined:
      return [];
  }
}

function instancePart(backend: string, seconds: number, usd: number): CostPart {
  return {
    item: 'instance',
    backend,
    quantity: toTheMillisecond(seconds),
    unit: 'second',
    usd: rounded(usd),
  };
}

function cpuPart(item: 'ingest' | 'calls', { backend, busy_seconds }: Usage, prices: Prices): CostPart {
  const usdASecond =
    CPU_SERVICE.vcpu * usdPerSecond(prices['cloud-run-request-vcpu']) +
    CPU_SERVICE.memoryGib * usdPerSecond(prices['cloud-run-request-gib']);
  return {
    item,
    backend,
    quantity: toTheMillisecond(busy_seconds),
    unit: 'second',
    usd: rounded(busy_seconds * usdASecond),
  };
}

/** That the job kept instances for: of those that it had alone, as they are billed. */
function instanceSeconds(usage: Usage, rate: Extract<BackendRate, { paid: 'own' | 'shared' }>): number {
  if (rate.paid === 'shared') return usage.busy_seconds + usage.cold_start_seconds;
  return sum(usage.instances.map((instance) => secondsOf(instance, rate.metering)));
}

type Seconds = Pick<Usage['instances'][number], 'busy_seconds' | 'cold_start_seconds'>;

function secondsOf({ busy_seconds, cold_start_seconds }: Seconds, metering: Metering): number {
  return billedSeconds(busy_seconds + cold_start_seconds, metering);
}

function ownUsd(instance: Seconds, metering: Metering): number {
  return secondsOf(instance, metering) * metering.usdPerSecond;
}

function operationsPart(record: JobRecord, prices: Prices): CostPart {
  const { storageClassA, storageClassB, cloudTasks, requests } = estimateOperations(record);
  return {
    item: 'operations',
    backend: null,
    quantity: storageClassA + storageClassB + cloudTasks + requests,
    unit: 'operation',
    usd: rounded(
      storageClassA * prices['storage-class-a'].usd +
        storageClassB * prices['storage-class-b'].usd +
        cloudTasks * prices['cloud-tasks-operation'].usd +
        requests * prices['cloud-run-request'].usd,
    ),
  };
}

/** By the model that was asked there, whichever does the job now. */
function audioUsdPerSecond(record: Pick<JobRecord, 'model'>, usage: Usage, prices: Prices): number {
  return usdPerSecond(prices[audioPrice(usage.model ?? record.model)]);
}

/** Of a second of audio at Mistral, by the model that it is sent to. */
export function audioPrice(model: string | null): PriceName {
  const name = (
    model !== null && model in VOXTRAL_MODELS ? model : DEFAULT_VOXTRAL_MODEL
  ) as VoxtralModelName;
  return VOXTRAL_MODELS[name].price;
}

function rateOf(name: string, { backends, prices }: Pricing): BackendRate | undefined {
  const backend = backends.find((one) => one.name === name);
  return backend === undefined ? undefined : backendRate(backend, prices);
}

/** Of the backends that it has used, or of that which it is to use: `cloud-run-l4 europe-west1 2026-10-01`. */
function basisOf(record: JobRecord, pricing: Pricing): string {
  const used = record.usage.map(({ backend }) => backend).filter((name) => name !== INGEST_BACKEND);
  const bases = (used.length > 0 ? used : [record.backend]).flatMap((name) => {
    const rate = rateOf(name, pricing);
    if (rate === undefined) return [];
    const usage = record.usage.find(({ backend }) => backend === name);
    const price = rate.paid === 'audio' ? audioPrice(usage?.model ?? record.model) : rate.price;
    return [`${price} ${rate.region} ${pricing.prices[price].date}`];
  });
  if (bases.length > 0) return bases.join('; ');
  return isInTheCloud(pricing.backends) ? 'no price is known' : 'your own machine';
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** Billionths of a dollar: a thousand of them added up are still right to the millionth. */
function rounded(usd: number): number {
  return Math.round(usd * 1e9) / 1e9;
}
