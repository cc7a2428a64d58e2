/** In decibels below the loudest that 16 bits can be. Noise of a quiet room is at -60, soft speech at -40. */
const AUDIBLE_DB = -50;
/** Speech goes up and down by more than this; a hum does not. */
const LIVELY_DB = 10;
const FLOOR_DB = 100;
/** Of all frames: somebody who says one sentence in half an hour is heard for less than a hundredth of it. */
const LOUD_FRACTION = 0.002;

/** How loud a stretch of audio is, in a memory that does not grow with it. */
export class Loudness {
  readonly #histogram = new Uint32Array(FLOOR_DB + 1);
  #frames = 0;

  add(energy: number): void {
    const db = energy === 0 ? -FLOOR_DB : 10 * Math.log10(energy / 32_768 ** 2);
    const bin = Math.min(FLOOR_DB, Math.max(0, Math.round(-db)));
    this.#histogram[bin] = (this.#histogram[bin] ?? 0) + 1;
    this.#frames += 1;
  }

  /** Whether there may be speech in it. Music may be taken for it, silence and hum are not. */
  get isLikeSpeech(): boolean {
    const loud = this.#reachedBy(LOUD_FRACTION);
    return loud >= AUDIBLE_DB && loud - this.#reachedBy(0.9) >= LIVELY_DB;
  }

  /** What that fraction of the frames is at least as loud as. */
  #reachedBy(fraction: number): number {
    let frames = 0;
    for (const [bin, count] of this.#histogram.entries()) {
      frames += count;
      if (frames > this.#frames * fraction) return -bin;
    }
    return -FLOOR_DB;
  }
}
