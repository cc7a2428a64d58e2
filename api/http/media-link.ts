import { createHmac, timingSafeEqual } from 'node:crypto';
import type { JobRef } from '../../core/objects.ts';

/** A player that reaches the end of the hour asks for the transcription again and gets a new link. */
const LINK_SECONDS = 3_600;
/** Links made within ten minutes are the same, so that a page which polls does not restart its player. */
const ROUND_SECONDS = 600;

/** The query that lets a player read one job's media for a while: `<audio>` and `<video>` send no headers. */
export function signMediaLink(key: string, { owner, id }: JobRef, nowMs: number): string {
  const expires = Math.ceil((nowMs / 1_000 + LINK_SECONDS) / ROUND_SECONDS) * ROUND_SECONDS;
  const signature = sign(key, owner, id, String(expires)).toString('base64url');
  return new URLSearchParams({ owner, expires: String(expires), signature }).toString();
}

/** Whose media the link opens; nothing when it is not ours, was changed, or is over. */
export function ownerOfMediaLink(
  key: string,
  id: string,
  query: Readonly<Record<string, unknown>>,
  nowMs: number,
): string | undefined {
  const { owner, expires, signature } = query;
  if (typeof owner !== 'string' || typeof expires !== 'string' || typeof signature !== 'string')
    return undefined;
  const given = Buffer.from(signature, 'base64url');
  const expected = sign(key, owner, id, expires);
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
  return Number(expires) * 1_000 > nowMs ? owner : undefined;
}

function sign(key: string, owner: string, id: string, expires: string): Buffer {
  return createHmac('sha256', key).update(`media\n${owner}\n${id}\n${expires}`).digest();
}
