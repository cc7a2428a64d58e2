const LONGEST_WAIT_SECONDS = 60;

/** The seconds of `Prefer: wait=N` (RFC 7240), 60 at most. What cannot be understood is ignored, as preferences are. */
export function preferredWaitSeconds(header: string | undefined): number {
  for (const preference of (header ?? '').split(',')) {
    const match = /^\s*wait\s*(?:=\s*"?(\d{1,6})"?)?\s*(?:;.*)?$/i.exec(preference);
    if (match !== null) return Math.min(Number(match[1] ?? LONGEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS);
  }
  return 0;
}
