import { SAMPLE_RATE } from '../../core/sample-rate.ts';
import { FRAME_SAMPLES } from './frames.ts';

/** What a cut looks for the quietest of: a pause as between two sentences. */
const PAUSE_FRAMES = Math.round((0.4 * SAMPLE_RATE) / FRAME_SAMPLES);

/** Of the limit. Even pieces are this much shorter than it, so that each of their borders can move half as much. */
const SLACK = 0.1;

/** Where a cut may lie, in samples. */
export interface CutWindow {
  from: number;
  to: number;
}

/**
 * Where a recording is to be cut so that no piece is longer than the limit: about every even part of it. None when it
 * fits as it is.
 */
export function cutWindows(samples: number, limitSamples: number): CutWindow[] {
  if (samples <= limitSamples) return [];
  const pieces = Math.ceil(samples / ((1 - SLACK) * limitSamples));
  const reach = Math.floor((SLACK / 2) * limitSamples);
  return Array.from({ length: pieces - 1 }, (_, index) => {
    const middle = Math.floor(((index + 1) * samples) / pieces);
    return { from: middle - reach, to: middle + reach };
  });
}

/**
 * Finds the quietest place in each window while the energies of the frames go by. It compares, so no level has to be
 * called silence; of places that are equally quiet it takes the one nearest to the middle.
 */
export class QuietCuts {
  readonly #windows: readonly CutWindow[];
  readonly #cuts: number[];
  readonly #lowest: number[];
  readonly #recent = new Float64Array(PAUSE_FRAMES);
  #frames = 0;
  #window = 0;

  constructor(windows: readonly CutWindow[]) {
    this.#windows = windows;
    this.#cuts = windows.map(({ from, to }) => Math.floor((from + to) / 2));
    this.#lowest = windows.map(() => Number.POSITIVE_INFINITY);
  }

  add(energy: number): void {
    this.#recent[this.#frames % PAUSE_FRAMES] = energy;
    this.#frames += 1;
    const end = this.#frames * FRAME_SAMPLES;
    for (let window = this.#windows[this.#window]; window !== undefined; ) {
      if (end <= window.to) {
        if (end - PAUSE_FRAMES * FRAME_SAMPLES >= window.from) this.#weigh(window, end);
        return;
      }
      this.#window += 1;
      window = this.#windows[this.#window];
    }
  }

  /** In samples. */
  get cuts(): readonly number[] {
    return this.#cuts;
  }

  #weigh(window: CutWindow, end: number): void {
    // Added up anew each time: a running sum would keep the rounding of what was loud before.
    const sum = this.#recent.reduce((total, energy) => total + energy, 0);
    const lowest = this.#lowest[this.#window] as number;
    if (sum > lowest) return;
    const cut = end - (PAUSE_FRAMES / 2) * FRAME_SAMPLES;
    const middle = (window.from + window.to) / 2;
    if (sum === lowest && Math.abs(cut - middle) >= Math.abs((this.#cuts[this.#window] as number) - middle)) {
      return;
    }
    this.#lowest[this.#window] = sum;
    this.#cuts[this.#window] = cut;
  }
}
