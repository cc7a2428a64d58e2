/** A part of an address as it is meant to be read; as it stands where it is not encoded as it should be. */
export function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
