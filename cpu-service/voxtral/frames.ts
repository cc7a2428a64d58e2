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
      this.#add(Int16Array.of((pcm.readUInt8(0) << 8) | this.#oddByte));
      this.#oddByte = undefined;
      at = 1;
    }
    const end = pcm.length - ((pcm.length - at) % BYTES_PER_SAMPLE);
    if (end < pcm.length) this.#oddByte = pcm.readUInt8(end);
    // Seen as samples, which wants an even address; every platform of ours is little-endian, as the samples are.
    const bytes =
      (pcm.byteOffset + at) % BYTES_PER_SAMPLE === 0
        ? pcm.subarray(at, end)
        : Uint8Array.from(pcm.subarray(at, end));
    this.#add(new Int16Array(bytes.buffer, bytes.byteOffset, bytes.length / BYTES_PER_SAMPLE));
  }

  #add(samples: Int16Array): void {
    let sum = this.#sum;
    let count = this.#count;
    for (const sample of samples) {
      sum += sample * sample;
      count += 1;
      if (count < FRAME_SAMPLES) continue;
      this.#onEnergy(sum / FRAME_SAMPLES);
      sum = 0;
      count = 0;
    }
    this.#sum = sum;
    this.#count = count;
  }
}
