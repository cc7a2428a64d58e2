import { createHash, timingSafeEqual } from 'node:crypto';
import { OWNER } from '../../core/objects.ts';

/** Who may use the service. Only hashes are kept: the keys themselves are not in memory to be leaked. */
export type ApiKeys = readonly { owner: string; digest: Buffer }[];

const DEFAULT_OWNER = 'default';
const HASHED = /^sha256:([0-9a-f]{64})$/i;

/**
 * Reads `name:key,name:key` or one bare key; a key may be given as `sha256:<hex>`. A name may stand there twice, so
 * that keys can be rotated.
 * @throws {TypeError} naming the entry by its position, never by its text
 */
export function parseApiKeys(text: string): ApiKeys {
  const entries = text
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  const bare = entries.filter((entry) => HASHED.test(entry) || !entry.includes(':'));
  if (bare.length > 0 && entries.length > 1) {
    throw new TypeError('several keys need names: write them as name:key,name:key');
  }
  return entries.map((entry, index) => {
    if (bare.length > 0) return { owner: DEFAULT_OWNER, digest: digestOf(entry) };
    const colon = entry.indexOf(':');
    const owner = entry.slice(0, colon);
    const key = entry.slice(colon + 1);
    if (!OWNER.test(owner)) {
      throw new TypeError(`the name of key ${index + 1} may hold a-z, 0-9 and - only, 63 at most`);
    }
    if (key === '') throw new TypeError(`key ${index + 1} is empty`);
    return { owner, digest: digestOf(key) };
  });
}

/** Looks at every key, and at all of each: the time it takes says nothing about how close a guess was. */
export function ownerOfKey(keys: ApiKeys, key: string): string | undefined {
  const digest = sha256(key);
  let owner: string | undefined;
  for (const candidate of keys) {
    if (timingSafeEqual(candidate.digest, digest)) owner = candidate.owner;
  }
  return owner;
}

function digestOf(key: string): Buffer {
  const hex = HASHED.exec(key)?.[1];
  return hex === undefined ? sha256(key) : Buffer.from(hex, 'hex');
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
