import type { Platform } from '../core/costs/platform-models.ts';
import { simulate } from './simulate.ts';
import { makeWorkload, type Workload, type WorkloadOptions } from './workload.ts';

/** From how many videos on the second of two platforms costs no more than the first. */
export interface BreakEven {
  videosPerDay: number;
  videosPerMonth: number;
}

const DAY_SECONDS = 24 * 3_600;

/** Looks for break-evens with the same pattern and lengths at every volume. Keeps what it has simulated. */
export class BreakEvens {
  readonly #options: Omit<WorkloadOptions, 'videosPerDay'>;
  readonly #workloads = new Map<number, Workload>();
  readonly #bills = new Map<Platform, Map<number, number | undefined>>();

  constructor(options: Omit<WorkloadOptions, 'videosPerDay'>) {
    this.#options = options;
  }

  /**
   * @returns undefined when the second is cheaper already for one video in the whole time, or at no volume that both of
   * them keep up with
   */
  between(first: Platform, second: Platform): BreakEven | undefined {
    /** undefined: one of them falls behind. */
    const isSecondCheaper = (videos: number): boolean | undefined => {
      const [one, other] = [this.#bill(first, videos), this.#bill(second, videos)];
      return one === undefined || other === undefined ? undefined : other <= one;
    };
    let below = 1;
    if (isSecondCheaper(below)) return undefined;
    let above = 2;
    for (;;) {
      const isCheaper = isSecondCheaper(above);
      if (isCheaper) break;
      if (isCheaper === undefined) return undefined;
      below = above;
      above *= 2;
    }
    while (above - below > Math.max(1, above / 200)) {
      const middle = Math.round((below + above) / 2);
      if (isSecondCheaper(middle)) above = middle;
      else below = middle;
    }
    const videosPerDay = above / this.#options.days;
    return { videosPerDay, videosPerMonth: videosPerDay * 30 };
  }

  #bill(platform: Platform, videos: number): number | undefined {
    const known = this.#bills.get(platform) ?? new Map<number, number | undefined>();
    this.#bills.set(platform, known);
    if (!known.has(videos)) {
      const workload = this.#workload(videos);
      const { jobs, billUsd } = simulate(platform, workload);
      const isBehind = jobs.some(({ endedAt }) => endedAt > workload.horizonSeconds + DAY_SECONDS);
      known.set(videos, isBehind ? undefined : billUsd);
    }
    return known.get(videos);
  }

  #workload(videos: number): Workload {
    const known = this.#workloads.get(videos);
    if (known !== undefined) return known;
    const made = makeWorkload({ ...this.#options, videosPerDay: videos / this.#options.days });
    this.#workloads.set(videos, made);
    return made;
  }
}
