import { SAMPLE_RATE } from '../../core/sample-rate.ts';
import { BYTES_PER_SAMPLE } from './read-pcm.ts';

/** 20 ms: short enough to find the pause between two words. */
export const FRAME_SAMPLES = SAMPLE_RATE / 50;

/** Cuts samples that arrive in pieces of any size into frames, and says the energy of each: its mean square. */
export class Frames {
  readonly #onEnergy: (energy: number) => void;
  #sum = 0;
  #count = 0;
  #oddByte: number | undefined;

  constructor(onEnergy: (energy: number) => void) {
    this.#onEnergy = onEnergy;
  }

  push(pcm: Buffer): void {
    let at = 0;
    if (this.#oddByte !== undefined && pcm.length > 0) {
      this.#add(((pcm.readUInt8(0) << 24) >> 16) | this.#oddByte);
      this.#oddByte = undefined;
      at = 1;
    }
    const whole = pcm.length - ((pcm.length - at) % BYTES_PER_SAMPLE);
    for (; at < whole; at += BYTES_PER_SAMPLE) this.#add(pcm.readInt16LE(at));
    if (at < pcm.length) this.#oddByte = pcm.readUInt8(at);
  }

  #add(sample: number): void {
    this.#sum += sample * sample;
    this.#count += 1;
    if (this.#count < FRAME_SAMPLES) return;
    this.#onEnergy(this.#sum / FRAME_SAMPLES);
    this.#sum = 0;
    this.#count = 0;
  }
}
