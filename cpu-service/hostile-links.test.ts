import type { LookupAddress } from 'node:dns';
import { isIP } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parseNetworks, type Resolve } from '../core/link-guard.ts';
import { type Origin, startOrigin } from '../tests/support/origin.ts';
import { watchConnections } from '../tests/support/watch-connections.ts';
import { type LinkAccess, openLink } from './open-link.ts';

/** Listens on loopback for what must not come. PORT in an address means its port. */
let trap: Origin;
beforeAll(async () => {
  trap = await startOrigin((_req, res) => res.end('reached'));
});
afterAll(() => trap.close());

const addresses = (...list: string[]): LookupAddress[] =>
  list.map((address) => ({ address, family: isIP(address) }));

/** What names mean to these tests. Any other name has no address. */
const NAMES: Record<string, LookupAddress[]> = {
  'loopback.example': addresses('127.0.0.1'),
  'loopback6.example': addresses('::1'),
  'private.example': addresses('10.0.0.5'),
  'linklocal.example': addresses('169.254.169.254'),
  'mapped.example': addresses('::ffff:127.0.0.1'),
  'nat64.example': addresses('64:ff9b::7f00:1'),
  'both.example': addresses('93.184.216.34', '127.0.0.1'),
  'both6.example': addresses('2606:4700:4700::1111', 'fd00:ec2::254'),
  '127.0.0.1.nip.io': addresses('127.0.0.1'),
  'xn--lgbc.example': addresses('0.0.0.0'),
};
const resolve: Resolve = async (host) => NAMES[host] ?? Promise.reject(new Error(`ENOTFOUND ${host}`));

function open(link: string, access: Partial<LinkAccess> = {}) {
  const signal = new AbortController().signal;
  const limits = { connectMs: 500, headersMs: 500, idleMs: 500 };
  return openLink(link, {
    startAt: 0,
    networks: [],
    maxBytes: 1_000,
    signal,
    limits,
    resolve,
    ca: trap.cert,
    ...access,
  });
}

const HOSTILE: [what: string, link: string][] = [
  ['loopback', 'https://127.0.0.1:PORT/'],
  ['another loopback', 'https://127.8.7.6:PORT/'],
  ['a decimal address', 'https://2130706433:PORT/'],
  ['an octal address', 'https://0177.0.0.1:PORT/'],
  ['a whole octal address', 'https://017700000001:PORT/'],
  ['a hexadecimal address', 'https://0x7f000001:PORT/'],
  ['a mixed address', 'https://0x7f.0.0.01:PORT/'],
  ['a short address', 'https://127.1:PORT/'],
  ['nothing but zero', 'https://0:PORT/'],
  ['the unspecified address', 'https://0.0.0.0:PORT/'],
  ['an address with a dot at its end', 'https://127.0.0.1.:PORT/'],
  ['an address in percent encoding', 'https://%31%32%37.0.0.1:PORT/'],
  ['fullwidth digits', 'https://127.0.0.1:PORT/'],
  ['circled digits', 'https://①②⑦.⓪.⓪.①:PORT/'],
  ['ideographic full stops', 'https://127。0。0。1:PORT/'],
  ['a decimal metadata address', 'https://2852039166/latest/meta-data/'],
  ['private network 10', 'https://10.0.0.1/'],
  ['private network 172', 'https://172.16.0.1/'],
  ['private network 192', 'https://192.168.0.1/'],
  ['carrier-grade NAT', 'https://100.64.0.1/'],
  ['benchmarking', 'https://198.18.0.1/'],
  ['documentation', 'https://203.0.113.7/'],
  ['multicast', 'https://224.0.0.1/'],
  ['broadcast', 'https://255.255.255.255/'],
  ['reserved', 'https://240.0.0.1/'],
  ['loopback in IPv6', 'https://[::1]:PORT/'],
  ['unspecified in IPv6', 'https://[::]:PORT/'],
  ['mapped IPv4', 'https://[::ffff:127.0.0.1]:PORT/'],
  ['mapped IPv4 in hexadecimal', 'https://[::ffff:7f00:1]:PORT/'],
  ['mapped IPv4 written out', 'https://[0:0:0:0:0:ffff:7f00:0001]:PORT/'],
  ['compatible IPv4', 'https://[::127.0.0.1]:PORT/'],
  ['NAT64', 'https://[64:ff9b::127.0.0.1]:PORT/'],
  ['local NAT64', 'https://[64:ff9b:1::a00:1]/'],
  ['6to4', 'https://[2002:7f00:1::]:PORT/'],
  ['Teredo', 'https://[2001:0:4136:e378:8000:63bf:80ff:fffe]/'],
  ['a zone', 'https://[fe80::1%25lo]:PORT/'],
  ['link-local in IPv6', 'https://[fe80::1]/'],
  ['site-local', 'https://[fec0::1]/'],
  ['unique local', 'https://[fd00::1]/'],
  ['multicast in IPv6', 'https://[ff02::1]/'],
  ['documentation in IPv6', 'https://[2001:db8::1]/'],
  ['the metadata address', 'https://169.254.169.254/computeMetadata/v1/'],
  ['the metadata address in IPv6', 'https://[fd00:ec2::254]/latest/'],
  ['the metadata address of another cloud', 'https://100.100.100.200/'],
  ['the host channel of another cloud', 'https://168.63.129.16/'],
  ['the metadata name', 'https://metadata.google.internal/computeMetadata/v1/'],
  ['the metadata name with a dot', 'https://metadata.google.internal./'],
  ['the metadata name in capitals', 'https://METADATA.Google.Internal/'],
  ['the short metadata name', 'https://metadata/computeMetadata/v1/'],
  ['another metadata name', 'https://metadata.goog/computeMetadata/v1/'],
  ['localhost', 'https://localhost:PORT/'],
  ['localhost with a dot', 'https://localhost.:PORT/'],
  ['localhost with two dots', 'https://localhost..:PORT/'],
  ['localhost in a disguise of width', 'https://ｌocalhost:PORT/'],
  ['below localhost', 'https://a.localhost:PORT/'],
  ['a local name', 'https://printer.local/'],
  ['an internal name', 'https://db.corp.internal/'],
  ['a name without a dot', 'https://intranet/'],
  ['a name that means loopback', 'https://loopback.example:PORT/'],
  ['a name that means loopback in IPv6', 'https://loopback6.example:PORT/'],
  ['a name that holds its address', 'https://127.0.0.1.nip.io:PORT/'],
  ['a name of a private address', 'https://private.example/'],
  ['a name of a link-local address', 'https://linklocal.example/'],
  ['a name of a mapped address', 'https://mapped.example:PORT/'],
  ['a name of a NAT64 address', 'https://nat64.example:PORT/'],
  ['a name of both kinds of addresses', 'https://both.example:PORT/'],
  ['a name of both kinds in IPv6', 'https://both6.example/'],
  ['a punycode name of the unspecified address', 'https://xn--lgbc.example:PORT/'],
  ['a user name that looks like the host', 'https://example.com@127.0.0.1:PORT/'],
  ['a user name and a password', 'https://user:secret@93.184.216.34/'],
  ['a host that looks like a password', 'https://example.com:x@127.0.0.1:PORT/'],
  ['an encoded at sign', 'https://example.com%40127.0.0.1:PORT/'],
  ['a fragment that looks like a host', 'https://127.0.0.1:PORT#@example.com/'],
  ['a query that looks like a host', 'https://127.0.0.1:PORT?@example.com/'],
  ['a backslash before the at sign', 'https://127.0.0.1:PORT\\@example.com/'],
  ['backslashes for slashes', 'https:\\\\127.0.0.1:PORT\\'],
  ['a tab within', 'https://127.0.\t0.1:PORT/'],
  ['a line feed within', 'https://127.0.0.1\n.example.com/'],
  ['a scheme cut by a line feed', 'ht\ntps://127.0.0.1:PORT/'],
  ['a header in the path', 'https://93.184.216.34/\r\nMetadata-Flavor: Google'],
  ['a zero byte', 'https://example.com\0.evil.example/'],
  ['no host', 'https:///127.0.0.1/'],
  ['nothing after the scheme', 'https://'],
  ['no slashes', 'https:127.0.0.1'],
  ['port 0', 'https://93.184.216.34:0/'],
  ['a port that is none', 'https://93.184.216.34:99999/'],
  ['two ports', 'https://93.184.216.34:443:PORT/'],
  ['http', 'http://127.0.0.1:PORT/'],
  ['http to a public address', 'http://93.184.216.34/'],
  ['ftp', 'ftp://93.184.216.34/a.mp3'],
  ['file', 'file:///etc/passwd'],
  ['gopher', 'gopher://127.0.0.1:PORT/_GET'],
  ['data', 'data:audio/wav;base64,UklGRg=='],
  ['javascript', 'javascript:alert(1)'],
  ['jar', 'jar:https://93.184.216.34!/a'],
  ['unix', 'unix:///var/run/docker.sock'],
  ['a scheme around a scheme', 'concat:https://127.0.0.1:PORT/'],
  ['no scheme', '//127.0.0.1:PORT/'],
  ['a very long one', `https://93.184.216.34/${'a'.repeat(10_000)}`],
  ['nothing', ''],
];

describe('a link to', () => {
  test.each(HOSTILE)('%s is refused, and nothing connects', async (_, link) => {
    using connections = watchConnections();
    await expect(open(link.replaceAll('PORT', String(trap.port)))).rejects.toMatchObject({
      slug: 'link-refused',
    });
    expect(connections.opened).toBe(0);
    expect(trap.connections).toBe(0);
  });
});

describe('a redirect to', () => {
  const here = parseNetworks('127.0.0.1/32');

  test.each([
    ['link-local', 'https://169.254.169.254/latest/'],
    ['link-local without a scheme', '//169.254.169.254/latest/'],
    ['another loopback address', 'https://127.0.0.2/'],
    ['loopback in IPv6', 'https://[::1]/'],
    ['http', 'http://127.0.0.1:PORT/'],
    ['a file', 'file:///etc/passwd'],
    ['data', 'data:audio/wav;base64,UklGRg=='],
    ['another port', 'https://127.0.0.1:PORT/'],
    ['a metadata name', 'https://metadata.google.internal/'],
    ['a name that means a private address', 'https://private.example/'],
    ['a name of both kinds of addresses', 'https://both6.example/'],
    ['a user name', 'https://example.com@127.0.0.1/'],
    ['backslashes', '\\\\169.254.169.254\\'],
    ['a decimal address', 'https://2852039166/'],
    ['an address that is none', 'https://[/'],
  ])('%s is refused, and nothing connects there', async (_, location) => {
    const origin = await startOrigin((_req, res) => {
      res.writeHead(302, { location: location.replaceAll('PORT', String(trap.port)) }).end();
    });
    try {
      using connections = watchConnections();
      const opening = open(`${origin.url}/a.mp3`, { networks: here, ca: origin.cert });
      await expect(opening).rejects.toMatchObject({ slug: 'link-refused' });
      expect(connections.attempts).toEqual([`127.0.0.1:${origin.port}`]);
      expect(origin.requests).toHaveLength(1);
      expect(trap.connections).toBe(0);
    } finally {
      await origin.close();
    }
  });
});

describe('a name that changes its meaning', () => {
  /** The answers one after the other, and the last one from then on. */
  function rebinding(...answers: string[]): { resolve: Resolve; asked: () => number } {
    let asked = 0;
    return {
      resolve: async () => addresses(answers[Math.min(asked++, answers.length - 1)] ?? ''),
      asked: () => asked,
    };
  }
  // Stands for the public address: nobody is there, whatever network the tests run in.
  const nobody = '192.0.2.1';
  const networks = parseNetworks(`${nobody}/32`);

  test('right after it was checked is not asked again: the connection goes where the check was', async () => {
    const names = rebinding(nobody, '127.0.0.1');
    using connections = watchConnections();
    const opening = open(`https://rebinding.example:${trap.port}/`, { networks, resolve: names.resolve });
    await expect(opening).rejects.toMatchObject({ slug: 'link-unreachable' });
    expect(connections.attempts).toEqual([`${nobody}:${trap.port}`]);
    expect(names.asked()).toBe(1);
    expect(trap.connections).toBe(0);
  });

  test('before the next step of a redirect is checked again', async () => {
    const origin = await startOrigin((_req, res) => res.writeHead(302, { location: '/again' }).end());
    const names = rebinding('127.0.0.1', '127.0.0.2');
    try {
      using connections = watchConnections();
      const access = { networks: parseNetworks('127.0.0.1/32'), resolve: names.resolve, ca: origin.cert };
      const opening = open(`https://localhost:${origin.port}/`, access);
      await expect(opening).rejects.toMatchObject({ slug: 'link-refused' });
      expect(connections.attempts).toEqual([`127.0.0.1:${origin.port}`]);
    } finally {
      await origin.close();
    }
  });

  test('after it was opened once is checked again when the rest is fetched', async () => {
    const origin = await startOrigin((_req, res) => {
      res.writeHead(200, { 'content-type': 'audio/wav', 'content-length': 4, etag: '"1"' }).end('abcd');
    });
    const names = rebinding('127.0.0.1', '127.0.0.2');
    const access = { networks: parseNetworks('127.0.0.1/32'), resolve: names.resolve, ca: origin.cert };
    try {
      const media = await open(`https://localhost:${origin.port}/`, access);
      media.body.destroy();
      using connections = watchConnections();
      const { signal } = new AbortController();
      const rest = { startAt: 2, validator: media.validator, maxBytes: 1_000, signal, ...access };
      const opening = openLink(`https://localhost:${origin.port}/`, rest);
      await expect(opening).rejects.toMatchObject({ slug: 'link-refused' });
      expect(connections.opened).toBe(0);
    } finally {
      await origin.close();
    }
  });
});

test('a connection that ended up somewhere else is closed before anything is asked', async () => {
  // Whatever comes between the check and the connection, here an answer that is another one when read later.
  let reads = 0;
  const changing = {
    family: 4,
    get address() {
      return reads++ === 0 ? '192.0.2.1' : '127.0.0.1';
    },
  };
  const origin = await startOrigin((_req, res) => res.end('reached'));
  try {
    const opening = open(`https://changing.example:${origin.port}/`, {
      networks: parseNetworks('192.0.2.1/32'),
      resolve: async () => [changing],
      ca: origin.cert,
    });
    await expect(opening).rejects.toMatchObject({ slug: 'link-refused' });
    expect(reads).toBeGreaterThan(1);
    expect(origin.requests).toEqual([]);
  } finally {
    await origin.close();
  }
});

test('the trap would have seen a connection', async () => {
  using connections = watchConnections();
  const networks = parseNetworks('127.0.0.1/32');
  const media = await open(trap.url, { networks });
  media.body.destroy();
  expect(connections.attempts).toEqual([`127.0.0.1:${trap.port}`]);
  expect(trap.connections).toBe(1);
});
