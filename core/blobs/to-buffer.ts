/** A piece of a stream, whoever made the stream. */
export function toBuffer(piece: unknown): Buffer {
  if (typeof piece === 'string') return Buffer.from(piece);
  const { buffer, byteOffset, byteLength } = piece as Uint8Array;
  return Buffer.from(buffer, byteOffset, byteLength);
}
