import type { LookupAddress } from 'node:dns';
import { isIP } from 'node:net';
import { describe, expect, test } from '@jest/globals';
import { checkLink, isAllowedAddress, linkHost, parseNetworks, resolveLink } from './link-guard.ts';

const to = (...addresses: string[]) => addresses.map((address) => ({ address, family: isIP(address) }));

describe('an address', () => {
  test.each([
    '8.8.8.8',
    '1.1.1.1',
    '93.184.216.34',
    '172.32.0.1',
    '100.128.0.1',
    '2606:4700:4700::1111',
    '2a00:1450:4001:81b::200e',
  ])('%s is public', (address) => {
    expect(isAllowedAddress(address, [])).toBe(true);
  });

  test.each([
    ['this machine', '127.0.0.1', '127.255.255.254', '::1', '0.0.0.0', '0.1.2.3', '::'],
    ['private networks', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', 'fc00::1', 'fd12::1'],
    [
      'link-local networks',
      '169.254.0.1',
      '169.254.169.254',
      'fe80::1',
      'fe80::1%eth0',
      'febf::1',
      'fec0::1',
    ],
    [
      'metadata services',
      '169.254.169.254',
      'fd00:ec2::254',
      'fd20:ce::254',
      '100.100.100.200',
      '168.63.129.16',
    ],
    [
      'shared and special networks',
      '100.64.0.1',
      '192.0.0.192',
      '192.88.99.1',
      '198.18.0.1',
      '198.19.255.255',
    ],
    ['documentation', '192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1', '3fff::1'],
    [
      'multicast and reserved',
      '224.0.0.1',
      '239.255.255.250',
      '240.0.0.1',
      '255.255.255.255',
      'ff02::1',
      '100::1',
    ],
    ['mapped IPv4', '::ffff:127.0.0.1', '::ffff:a00:1', '::ffff:8.8.8.8', '::ffff:0:10.0.0.1'],
    ['compatible IPv4', '::127.0.0.1', '::7f00:1', '::10.0.0.1'],
    ['translated IPv4', '64:ff9b::7f00:1', '64:ff9b::10.0.0.1', '64:ff9b:1::10.0.0.1'],
    ['tunnels', '2002:7f00:1::', '2002:c0a8:101::1', '2001:0:4136:e378:8000:63bf:3fff:fdd2'],
    ['what is not routed', '4000::1', '8000::1', '5f00::1', '1::1', '2001:2::1', '2001:20::1'],
    ['no address at all', '', 'localhost', '127.1', '0x7f000001', '8.8.8.8 ', '[::1]'],
  ])('of %s is not', (_, ...addresses) => {
    for (const address of addresses)
      expect([address, isAllowedAddress(address, [])]).toEqual([address, false]);
  });

  test('within a network that the operator opened is allowed, and no other', () => {
    const networks = parseNetworks('10.1.0.0/16, fd12:3456::/32');
    expect(isAllowedAddress('10.1.2.3', networks)).toBe(true);
    expect(isAllowedAddress('fd12:3456::1', networks)).toBe(true);
    expect(isAllowedAddress('10.2.0.1', networks)).toBe(false);
    expect(isAllowedAddress('fd13::1', networks)).toBe(false);
    expect(isAllowedAddress('::ffff:10.1.2.3', networks)).toBe(false);
  });

  test.each(['169.254.169.254', '100.100.100.200', '168.63.129.16', 'fd00:ec2::254', 'fe80::1'])(
    'of a metadata service (%s) stays closed when everything is opened',
    (address) => {
      expect(isAllowedAddress(address, parseNetworks('0.0.0.0/0,::/0'))).toBe(false);
    },
  );

  test.each([
    '',
    '10.0.0.0',
    '10.0.0.0/33',
    '10.0.0.0/8/8',
    '0x0a.0.0.0/8',
    '10.1/16',
    '::/129',
    'x/8',
    '10.0.0.0/8,',
  ])('cannot be opened by %j', (text) => {
    expect(() => parseNetworks(text)).toThrow('must be networks such as');
  });
});

describe('a link', () => {
  test.each([
    ['https://example.com/a.mp3', 'https://example.com/a.mp3'],
    ['  https://example.com/my file.mp3\t'.trim(), 'https://example.com/my%20file.mp3'],
    ['HTTPS://EXAMPLE.com:443/A?token=1#part', 'https://example.com/A?token=1'],
    ['https://example.com:8443/', 'https://example.com:8443/'],
    ['https://bücher.example.com/', 'https://xn--bcher-kva.example.com/'],
    ['https://93.184.216.34/a', 'https://93.184.216.34/a'],
    ['https://[2606:4700:4700::1111]/', 'https://[2606:4700:4700::1111]/'],
  ])('%s is let through as %s', (text, href) => {
    expect(checkLink(text, []).href).toBe(href);
  });

  test.each([
    'https://nas.local/a',
    'https://localhost/a',
    'https://media/a',
    'https://files.corp.internal/a',
  ])('%s may be used where private networks are open', (text) => {
    expect(() => checkLink(text, [])).toThrow('does not lead to a public address');
    expect(checkLink(text, parseNetworks('10.0.0.0/8')).href).toBe(text);
  });

  test('to a metadata service by its name never may', () => {
    const all = parseNetworks('0.0.0.0/0');
    for (const host of ['metadata.google.internal', 'METADATA.google.internal.', 'metadata.goog']) {
      expect(() => checkLink(`https://${host}/`, all)).toThrow('does not lead to a public address');
    }
  });

  test('that is refused is not repeated in the reason: it may hold a secret', () => {
    for (const text of [
      'http://x.example/?token=SECRET',
      'https://u:SECRET@x.example/',
      'https://[SECRET/',
    ]) {
      expect(() => checkLink(text, [])).toThrow(expect.objectContaining({ slug: 'link-refused' }));
      expect(() => checkLink(text, [])).not.toThrow('SECRET');
    }
  });

  test('names its host as a name service wants it', () => {
    const hosts = ['https://a.example./', 'https://[2606:4700::1]/'].map((text) => linkHost(new URL(text)));
    expect(hosts).toEqual(['a.example', '2606:4700::1']);
  });
});

describe('a name', () => {
  const url = new URL('https://example.com/');
  const resolving = (addresses: LookupAddress[]) => resolveLink(url, [], async () => addresses);

  test('resolves to all its public addresses', async () => {
    const addresses = to('93.184.216.34', '2606:4700:4700::1111');
    expect(await resolving(addresses)).toEqual(addresses);
  });

  test.each([
    [['127.0.0.1']],
    [['10.0.0.1']],
    [['169.254.169.254']],
    [['::1']],
    [['::ffff:10.0.0.1']],
    [['93.184.216.34', '10.0.0.1']],
    [['2606:4700:4700::1111', 'fd00::1']],
    [['fe80::1%eth0']],
  ])('with the addresses %j is refused', async (addresses) => {
    await expect(resolving(to(...addresses))).rejects.toMatchObject({ slug: 'link-refused' });
  });

  test('without an address can be tried again', async () => {
    await expect(resolving([])).rejects.toMatchObject({ slug: 'link-unreachable' });
    const unknown = async () => Promise.reject(new Error('ENOTFOUND'));
    await expect(resolveLink(url, [], unknown)).rejects.toMatchObject({ slug: 'link-unreachable' });
  });
});
