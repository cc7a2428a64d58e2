import {
  type Platform,
  type PlatformAssumptions,
  type PlatformName,
  platforms,
} from '../core/costs/platform-models.ts';
import { BreakEvens } from './break-even.ts';
import { type OriginalFigure, originalFigures } from './original-figures.ts';
import { type Summary, summaryOf } from './summary.ts';
import { makeWorkload, type Workload, type WorkloadOptions } from './workload.ts';

export interface PlatformReport extends Summary {
  name: PlatformName;
  /** Of a price per video; null where none was given. */
  margin: number | null;
}

/** What happens to the cost of a video when one thing changes. */
export interface Sensitivity {
  name: PlatformName;
  usdPerVideo: Record<
    'asItIs' | 'twiceAsFast' | 'halfAsFast' | 'priceUp20Percent' | 'priceDown20Percent',
    number
  >;
}

export interface Report {
  workload: (WorkloadOptions & { kind: 'assumed' }) | { kind: 'measured'; videos: number; days: number };
  assumptions: Omit<PlatformAssumptions, 'prices'>;
  prices: PlatformAssumptions['prices'];
  priceUsdPerVideo: number | null;
  platforms: PlatformReport[];
  /** From how many videos a month the second costs no more than the first. */
  breakEvens: { first: PlatformName; second: PlatformName; videosPerMonth: number }[];
  sensitivity: Sensitivity[];
  original: OriginalFigure[];
}

export interface ReportOptions {
  assumptions: PlatformAssumptions;
  /** Also of break-evens: the same pattern and lengths at other volumes. */
  workload: WorkloadOptions;
  /** Jobs that were measured, in place of the pattern. */
  measured?: Workload;
  priceUsdPerVideo: number | null;
}

export function makeReport({ assumptions, workload, measured, priceUsdPerVideo }: ReportOptions): Report {
  const named = platforms(assumptions);
  const all = Object.entries(named) as [PlatformName, Platform][];
  const arrivals = measured ?? makeWorkload(workload);
  const { prices, ...others } = assumptions;
  const volumes = new BreakEvens(workload);
  const pairs = all.flatMap((first) => all.map((second) => [first, second] as const));
  return {
    workload:
      measured === undefined
        ? { kind: 'assumed', ...workload }
        : {
            kind: 'measured',
            videos: measured.arrivals.length,
            days: measured.horizonSeconds / (24 * 3_600),
          },
    assumptions: others,
    prices,
    priceUsdPerVideo,
    platforms: all.map(([name, platform]) => {
      const summary = summaryOf(platform, arrivals);
      const margin = priceUsdPerVideo === null ? null : 1 - summary.usdPerVideo / priceUsdPerVideo;
      return { name, ...summary, margin };
    }),
    breakEvens: pairs.flatMap(([[first, one], [second, other]]) => {
      const found = first === second ? undefined : volumes.between(one, other);
      return found === undefined ? [] : [{ first, second, videosPerMonth: found.videosPerMonth }];
    }),
    sensitivity: all.map(([name, platform]) => ({
      name,
      usdPerVideo: {
        asItIs: usdPerVideo(platform, arrivals),
        twiceAsFast: usdPerVideo(faster(platform, 2), arrivals),
        halfAsFast: usdPerVideo(faster(platform, 0.5), arrivals),
        priceUp20Percent: usdPerVideo(dearer(platform, 1.2), arrivals),
        priceDown20Percent: usdPerVideo(dearer(platform, 0.8), arrivals),
      },
    })),
    original: originalFigures({
      cloudRunUsdPerSecond: usdPerSecondOf(named['cloud-run-service']),
      coldStartSeconds: assumptions.coldStartSeconds,
      idleTailSeconds: assumptions.idleTailSeconds,
      vertexUsdPerHour: usdPerSecondOf(named['vertex-job']) * 3_600,
    }),
  };
}

function usdPerVideo(platform: Platform, workload: Workload): number {
  return summaryOf(platform, workload).usdPerVideo;
}

function faster<P extends Platform>(platform: P, times: number): P {
  return { ...platform, realtimeFactor: platform.realtimeFactor * times };
}

function dearer(platform: Platform, times: number): Platform {
  switch (platform.kind) {
    case 'service':
    case 'run':
      return {
        ...platform,
        metering: { ...platform.metering, usdPerSecond: platform.metering.usdPerSecond * times },
      };
    case 'server':
      return { ...platform, usdPerSecond: platform.usdPerSecond * times };
    case 'api':
      return { ...platform, usdPerAudioSecond: platform.usdPerAudioSecond * times };
  }
}

function usdPerSecondOf(platform: Platform): number {
  return 'metering' in platform ? platform.metering.usdPerSecond : 0;
}
