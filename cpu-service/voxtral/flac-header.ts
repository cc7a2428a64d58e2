/** `fLaC`, the header of the first block, and STREAMINFO, which is always that block (RFC 9639, section 8.2). */
export const FLAC_HEADER_BYTES = 42;

/** Of the 36 bits that count the samples, the upper 4 share a byte with the depth. */
const SAMPLES_AT = 21;

/**
 * The beginning of a FLAC with the number of its samples in it. ffmpeg cannot go back in a pipe to write that, and not
 * every decoder takes a stream that does not say how long it is.
 */
export function withSampleCount(header: Buffer, samples: number): Buffer {
  const changed = Buffer.from(header.subarray(0, FLAC_HEADER_BYTES));
  if (changed.length < FLAC_HEADER_BYTES || changed.toString('latin1', 0, 4) !== 'fLaC') {
    throw new TypeError('this is not the beginning of a FLAC');
  }
  const depth = changed.readUInt8(SAMPLES_AT) & 0xf0;
  changed.writeUInt8(depth | Math.floor(samples / 2 ** 32), SAMPLES_AT);
  changed.writeUInt32BE(samples % 2 ** 32, SAMPLES_AT + 1);
  return changed;
}

/** The same of a stream, whatever its chunks are. */
export async function* flacWithSampleCount(
  flac: AsyncIterable<Buffer>,
  samples: number,
): AsyncGenerator<Buffer> {
  let header: Buffer | undefined = Buffer.alloc(0);
  for await (const chunk of flac) {
    if (header === undefined) {
      yield chunk;
      continue;
    }
    header = Buffer.concat([header, chunk]);
    if (header.length < FLAC_HEADER_BYTES) continue;
    yield Buffer.concat([withSampleCount(header, samples), header.subarray(FLAC_HEADER_BYTES)]);
    header = undefined;
  }
}

/** 0: the stream does not say it. */
export function sampleCount(header: Buffer): number {
  return (header.readUInt8(SAMPLES_AT) & 0x0f) * 2 ** 32 + header.readUInt32BE(SAMPLES_AT + 1);
}
