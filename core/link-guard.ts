import type { LookupAddress } from 'node:dns';
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { ServiceError } from './problem.ts';

type Address = ipaddr.IPv4 | ipaddr.IPv6;
type Network = readonly [Address, number];
export type Networks = readonly Network[];

/** Every address of a host. A test gives its own. */
export type Resolve = (host: string) => Promise<LookupAddress[]>;

const resolveAll: Resolve = (host) => lookup(host, { all: true });

/** Long enough for the signed links of every cloud. */
const MAX_LENGTH = 8_192;

/** What a browser would silently remove or turn into a slash: an honest link has none of it. */
const REPAIRED = /[\p{Cc}\\]/u;

/** The platforms' metadata services, under names that do not give themselves away by their ending. */
const METADATA_NAMES = new Set(['metadata.goog', 'metadata.google.internal']);

/** Names that never mean a host of the public internet. */
const LOCAL_ENDINGS = ['localhost', 'localdomain', 'local', 'internal', 'intranet', 'lan', 'home.arpa'];

/** What stays closed whatever an operator opens: link-local networks, and where platforms tell machines their secrets. */
const NEVER = parseNetworks(
  '169.254.0.0/16,fe80::/10,fd00:ec2::/32,fd20:ce::/64,100.100.100.200/32,168.63.129.16/32',
);

/** All that is routed. Outside it are, among others, the ways to write an IPv4 address inside an IPv6 one (RFC 4291). */
const GLOBAL_UNICAST = parseNetwork('2000::/3');

/** @throws {Error} that says what is wrong */
export function parseNetworks(text: string): Networks {
  return text.split(',').map((item) => parseNetwork(item.trim()));
}

function parseNetwork(text: string): Network {
  const [address = '', bits = '', ...rest] = text.split('/');
  const isRight = isIP(address) !== 0 && /^\d{1,3}$/.test(bits) && rest.length === 0;
  if (!isRight || !ipaddr.isValidCIDR(text)) throw new Error('must be networks such as 10.1.0.0/16,fd00::/8');
  return ipaddr.parseCIDR(text);
}

/**
 * The one guard for addresses that users give us: https, and a host that is not known to be private already. What its
 * name resolves to is checked by `resolveLink`, when a connection is made. `base`: of a redirect, which may be relative.
 * @throws {ServiceError} link-refused
 */
export function checkLink(text: string, networks: Networks, base?: URL): URL {
  if (text.length > MAX_LENGTH) throw refused(`The link is longer than ${MAX_LENGTH} characters.`);
  if (REPAIRED.test(text)) throw refused('The link holds control characters or backslashes.');
  if (base === undefined && !/^\s*https:\/\/[^/]/i.test(text)) {
    throw refused('A link must begin with https:// and the name of a host.');
  }
  const url = URL.parse(text, base?.href);
  if (url === null) throw refused('The link is not a valid address.');
  if (url.protocol !== 'https:') throw refused('Links must be https, redirects included.');
  if (url.username !== '' || url.password !== '') {
    throw refused('The link holds a user name or password. Leave them out, or upload the file instead.');
  }
  if (url.port === '0') throw refused('The link has a port that does not exist.');
  const host = linkHost(url);
  const isOpen = isIP(host) === 0 ? isPublicName(host, networks) : isAllowedAddress(host, networks);
  if (!isOpen) throw notPublic();
  url.hash = '';
  return url;
}

/** As a name service or a connection wants it: without the brackets of an IPv6 address, or the dot of the root. */
export function linkHost({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$|\.+$/g, '');
}

/**
 * The addresses that a connection may use, and no others: a name may mean another one a moment later.
 * @throws {ServiceError} link-refused when one of them is not public, link-unreachable when there is none
 */
export async function resolveLink(
  url: URL,
  networks: Networks,
  resolve: Resolve = resolveAll,
): Promise<LookupAddress[]> {
  const host = linkHost(url);
  const family = isIP(host);
  let addresses: LookupAddress[];
  try {
    addresses = family === 0 ? await resolve(host) : [{ address: host, family }];
  } catch (error) {
    throw new ServiceError('link-unreachable', `The name ${host} could not be found. Check the link.`, {
      cause: error,
    });
  }
  if (addresses.length === 0) {
    throw new ServiceError('link-unreachable', `The name ${host} has no address. Check the link.`);
  }
  // Not only those that are public: who mixes both kinds means harm, or a network that is none of our business.
  if (!addresses.every(({ address }) => isAllowedAddress(address, networks))) throw notPublic();
  return addresses;
}

export function isAllowedAddress(text: string, networks: Networks): boolean {
  if (isIP(text) === 0) return false;
  const address = ipaddr.parse(text);
  if (isWithin(address, NEVER)) return false;
  return isPublic(address) || isWithin(address, networks);
}

function isPublic(address: Address): boolean {
  if (address.range() !== 'unicast') return false;
  return address.kind() === 'ipv4' || isWithin(address, [GLOBAL_UNICAST]);
}

function isWithin(address: Address, networks: Networks): boolean {
  return networks.some(([base, bits]) => base.kind() === address.kind() && address.match(base, bits));
}

/** Where an operator has opened private networks, their names are used too, and the addresses decide. */
function isPublicName(host: string, networks: Networks): boolean {
  if (host === '' || METADATA_NAMES.has(host)) return false;
  if (networks.length > 0) return true;
  return host.includes('.') && !LOCAL_ENDINGS.some((ending) => `.${host}`.endsWith(`.${ending}`));
}

function notPublic(): ServiceError {
  return refused('The link does not lead to a public address. Upload the file instead.');
}

function refused(detail: string): ServiceError {
  return new ServiceError('link-refused', detail);
}
