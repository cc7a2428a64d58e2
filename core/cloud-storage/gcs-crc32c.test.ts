import { CRC32C } from '@google-cloud/storage';
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Crc32c } from './gcs-crc32c.ts';

test.each([
  ['', 'AAAAAA=='],
  ['data', 'rth90Q=='],
  ['123456789', '4waSgw=='],
])('the checksum of %j is %s', (text, expected) => {
  expect(String(new Crc32c().update(Buffer.from(text)))).toBe(expected);
});

test('is what the client library computes, however the bytes are cut and aligned', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(199), (bytes, cut) => {
      const reference = new CRC32C();
      reference.update(Buffer.from(bytes));
      const ours = new Crc32c().update(bytes.subarray(0, cut)).update(bytes.subarray(cut));
      expect(String(ours)).toBe(String(reference));
    }),
  );
});
