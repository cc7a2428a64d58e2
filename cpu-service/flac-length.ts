/** Of every FLAC we make; only the last block of a stream is shorter. A longer block compresses no better. */
export const FLAC_BLOCK_SAMPLES = 4096;

/** More than a block takes when nothing in it can be compressed (16 bits, mono), with its header. */
const LONGEST_FRAME_BYTES = FLAC_BLOCK_SAMPLES * 2 + 64;

/**
 * How many samples a FLAC stream holds, known once its last byte went by. ffmpeg cannot go back in a pipe to write
 * that into the header, but the last frame has its number and its length in it, and two checksums to find it by.
 */
export class FlacLength {
  #tail: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): void {
    this.#tail =
      chunk.length >= LONGEST_FRAME_BYTES
        ? chunk.subarray(-LONGEST_FRAME_BYTES)
        : Buffer.concat([this.#tail, chunk]).subarray(-LONGEST_FRAME_BYTES);
  }

  /** 0 when the stream does not end with a whole frame. */
  get samples(): number {
    for (let at = this.#tail.length; at >= 0; at = this.#tail.lastIndexOf(0xff, at - 1)) {
      const frame = this.#tail.subarray(at);
      const length = samplesUpTo(frame);
      if (length !== undefined && crc(frame, 16, 0x8005) === 0) return length;
      if (at === 0) break;
    }
    return 0;
  }
}

/** Up to the end of the frame that begins here; undefined when none does. RFC 9639, section 9.1. */
function samplesUpTo(frame: Buffer): number | undefined {
  // The sync code of a stream whose blocks have a fixed size, then codes for the size and the rate.
  if (frame.length < 8 || frame[0] !== 0xff || frame[1] !== 0xf8) return undefined;
  const sizeCode = (frame[2] as number) >> 4;

  let at = 4;
  const first = frame[at++] as number;
  const continuationBytes = first < 0x80 ? 0 : Math.clz32(~(first << 24)) - 1;
  let frameNumber = first < 0x80 ? first : first & (0x3f >> continuationBytes);
  for (let i = 0; i < continuationBytes; i++) frameNumber = frameNumber * 64 + ((frame[at++] ?? 0) & 0x3f);

  let blockSamples: number;
  if (sizeCode === 6 && at < frame.length) blockSamples = frame.readUInt8(at++) + 1;
  else if (sizeCode === 7 && at + 1 < frame.length) {
    blockSamples = frame.readUInt16BE(at) + 1;
    at += 2;
  } else if (sizeCode === 1) blockSamples = 192;
  else if (sizeCode >= 2 && sizeCode <= 5) blockSamples = 576 << (sizeCode - 2);
  else if (sizeCode >= 8) blockSamples = 256 << (sizeCode - 8);
  else return undefined;

  if (crc(frame.subarray(0, at + 1), 8, 0x07) !== 0) return undefined;
  return frameNumber * FLAC_BLOCK_SAMPLES + blockSamples;
}

/** 0 for bytes that end with their own checksum. */
function crc(bytes: Buffer, bits: 8 | 16, polynomial: number): number {
  const top = 1 << (bits - 1);
  const mask = (1 << bits) - 1;
  let value = 0;
  for (const byte of bytes) {
    value ^= byte << (bits - 8);
    for (let i = 0; i < 8; i++) value = (value & top ? (value << 1) ^ polynomial : value << 1) & mask;
  }
  return value;
}
