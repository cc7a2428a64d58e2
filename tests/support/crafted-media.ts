/** Parts of media files, to be put together in ways in which no honest program does it. */

export const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);
export function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, i * 4);
  return bytes;
}
export function u32le(...values: number[]): Buffer {
  return u32(...values).swap32();
}

type Part = Buffer | string;
const join = (parts: readonly Part[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));

/** Of mp4 and QuickTime. */
export function atom(type: string, ...parts: Part[]): Buffer {
  const content = join(parts);
  return join([u32(8 + content.length), type, content]);
}

/** Of WAV and AVI. */
export function chunk(type: string, ...parts: Part[]): Buffer {
  const content = join(parts);
  return join([type, u32le(content.length), content]);
}

/** Of Matroska: `id` in hexadecimal; `claimedBytes` is what it says of itself. */
export function element(id: string, content: Buffer, claimedBytes = content.length): Buffer {
  const size = Buffer.alloc(8);
  size.writeBigUInt64BE((0x01n << 56n) | BigInt(claimedBytes));
  return Buffer.concat([Buffer.from(id, 'hex'), size, content]);
}

export interface PcmTrack {
  /** What the samples are said to be in: a data reference, as content of `dref`. */
  reference?: Buffer;
  format?: string;
  chunkOffsets: readonly number[];
  samplesPerChunk: number;
  /** Claimed in `stsz` and `stts`. */
  samples?: number;
}

const IN_THIS_FILE = atom('url ', u32(1));

/** 16 kHz, mono, 16 bit, little endian. */
export function pcmTrack({
  reference = IN_THIS_FILE,
  format = 'sowt',
  chunkOffsets,
  samplesPerChunk,
  samples = chunkOffsets.length * samplesPerChunk,
}: PcmTrack): Buffer {
  const entry = atom(
    format,
    u32(0),
    u16(0),
    u16(1),
    u32(0, 0),
    u16(1),
    u16(16),
    u32(0),
    u32(16_000 * 65_536),
  );
  return atom(
    'trak',
    atom('tkhd', u32(3, 0, 0, 1, 0, samples), Buffer.alloc(60)),
    atom(
      'mdia',
      atom('mdhd', u32(0, 0, 0, 16_000, samples, 0)),
      atom('hdlr', u32(0), 'mhlrsoun', Buffer.alloc(13)),
      atom(
        'minf',
        atom('smhd', u32(0, 0)),
        atom('dinf', atom('dref', u32(0, 1), reference)),
        atom(
          'stbl',
          atom('stsd', u32(0, 1), entry),
          atom('stts', u32(0, 1, samples, 1)),
          atom('stsc', u32(0, 1, 1, samplesPerChunk, 1)),
          atom('stsz', u32(0, 2, samples)),
          atom('stco', u32(0, chunkOffsets.length, ...chunkOffsets)),
        ),
      ),
    ),
  );
}

/** `content` comes first, from byte 28 on. */
export function mov(moovParts: readonly Buffer[], content: Buffer = Buffer.alloc(0)): Buffer {
  const header = atom('mvhd', u32(0, 0, 0, 16_000, 16_000), Buffer.alloc(80));
  return Buffer.concat([
    atom('ftyp', 'qt  ', u32(0), 'qt  '),
    atom('mdat', content),
    atom('moov', header, ...moovParts),
  ]);
}

/** A data reference to another file, as old Macs had them. */
export function macintoshAlias(path: string): Buffer {
  const padded = path.length % 2 === 0 ? path : `${path}\0`;
  return atom('alis', u32(0), Buffer.alloc(150), u16(2), u16(padded.length), padded, u16(0xffff), u16(0));
}

/** One page that holds `packet`, of less than 255 bytes, whole. */
export function oggPage(
  packet: Part,
  { serial, sequence = 0, flags = 2 }: { serial: number; sequence?: number; flags?: number },
): Buffer {
  const content = join([packet]);
  const page = join([
    'OggS\0',
    Buffer.from([flags]),
    Buffer.alloc(8),
    u32le(serial, sequence, 0),
    Buffer.from([1, content.length]),
    content,
  ]);
  page.writeUInt32LE(oggChecksum(page), 22);
  return page;
}

function oggChecksum(page: Buffer): number {
  let sum = 0;
  for (const byte of page) {
    sum ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) sum = sum & 0x8000_0000 ? (sum << 1) ^ 0x04c1_1db7 : sum << 1;
  }
  return sum >>> 0;
}

/** `claimedBytes` is what it says of its length, of which the file may have less. */
export function id3(content: Part, claimedBytes?: number): Buffer {
  const bytes = join([content]);
  return join(['ID3\x04\0\0', syncSafe(claimedBytes ?? bytes.length), bytes]);
}

/** Seven bits in each byte. */
export function syncSafe(value: number): Buffer {
  return Buffer.from([21, 14, 7, 0].map((shift) => (value >> shift) & 127));
}
