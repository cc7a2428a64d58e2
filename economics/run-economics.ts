import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import type { Client } from '../cli/client.ts';
import { print } from '../cli/stdout.ts';
import { UsageError } from '../cli/usage-error.ts';
import { ASSUMED, type PlatformAssumptions, platforms } from '../core/costs/platform-models.ts';
import { PRICES, type Prices, withOwnPrices } from '../core/costs/prices.ts';
import { htmlReport, type VolumeCurve } from './html-report.ts';
import { measureJobs } from './measured-jobs.ts';
import { printedReport } from './print-report.ts';
import { printedRouting } from './print-routing.ts';
import { makeReport } from './report.ts';
import { makeRoutingReport } from './routing-report.ts';
import { summaryOf } from './summary.ts';
import { makeWorkload, type WorkloadOptions } from './workload.ts';

export interface EconomicsRequest {
  videosPerDay: number;
  minutes: number;
  lengths: WorkloadOptions['lengths'];
  pattern: WorkloadOptions['pattern'];
  days: number;
  seed: number;
  price?: number;
  realtimeFactor?: number;
  coldStart?: number;
  idleTail?: number;
  maxGpus?: number;
  routing?: true;
  json?: true;
  html?: string;
}

/** So many of the newest jobs say how a service is used. */
const MOST_JOBS = 10_000;

/** @throws {UsageError} */
export async function runEconomics(request: EconomicsRequest, client: Client | undefined): Promise<void> {
  const measured = client === undefined ? undefined : await measureJobs(client, MOST_JOBS);
  if (client !== undefined && measured === undefined) {
    throw new UsageError(
      'This service has no completed job to learn from. Without --server a workload is assumed.',
    );
  }
  const { realtimeFactor, coldStart, idleTail, maxGpus } = request;
  const assumptions: PlatformAssumptions = {
    ...ASSUMED,
    prices: readPrices(process.env.PRICES_FILE),
    gpu: {
      ...(measured?.gpu ?? ASSUMED.gpu),
      ...(realtimeFactor !== undefined && { realtimeFactor }),
    },
    coldStartSeconds: coldStart ?? measured?.coldStartSeconds ?? ASSUMED.coldStartSeconds,
    idleTailSeconds: idleTail ?? ASSUMED.idleTailSeconds,
    maxGpus: maxGpus ?? ASSUMED.maxGpus,
  };
  const workload: WorkloadOptions = {
    pattern: request.pattern,
    videosPerDay: request.videosPerDay,
    audioMinutes: request.minutes,
    lengths: request.lengths,
    days: request.days,
    seed: request.seed,
  };
  const report = makeReport({
    assumptions,
    workload,
    ...(measured !== undefined && { measured: measured.workload }),
    priceUsdPerVideo: request.price ?? null,
  });
  const routing = request.routing && makeRoutingReport(assumptions, request.seed);
  if (request.html !== undefined) {
    const curves = volumeCurves(assumptions, workload);
    await writeFile(request.html, htmlReport(report, curves, routing));
    process.stderr.write(`Wrote ${request.html}\n`);
  }
  const text = routing === undefined ? printedReport(report) : printedRouting(routing);
  await print(request.json ? `${JSON.stringify(routing ?? report, null, 2)}\n` : text);
}

function readPrices(path: string | undefined): Prices {
  if (path === undefined || path === '') return PRICES;
  try {
    return withOwnPrices(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new UsageError(`PRICES_FILE ${path}: ${(error as Error).message}`);
  }
}

const VOLUMES_A_MONTH = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000];

function volumeCurves(assumptions: PlatformAssumptions, workload: WorkloadOptions): VolumeCurve[] {
  return Object.entries(platforms(assumptions)).map(([name, platform]) => ({
    name,
    points: VOLUMES_A_MONTH.map((videosPerMonth) => {
      const { usdPerVideo } = summaryOf(
        platform,
        makeWorkload({ ...workload, days: 30, videosPerDay: videosPerMonth / 30 }),
      );
      return { videosPerMonth, usdPerVideo };
    }),
  }));
}
