import { expect, test } from '@jest/globals';
import { explain } from './failure.mjs';

const said = (output: string): string => explain('installing the Python packages', output, '/here');

test('a folder that may not be written', () => {
  expect(said("EACCES: permission denied, open '/here/.setup.lock.12'")).toMatch(
    /Make \/here writable for this user/,
  );
  expect(said('EROFS: read-only file system, open')).toMatch(/Make \/here writable/);
  expect(
    said("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: 'x'"),
  ).toMatch(/Make \/here writable/);
});

test('a full disk goes before what it brings about', () => {
  expect(said('npm warn tar TAR_ENTRY_ERROR ENOSPC\nnpm error code ENOTFOUND')).toMatch(/The disk is full/);
  expect(said('OSError: [Errno 122] Disk quota exceeded')).toMatch(/The disk is full/);
});

test('an unreachable source goes before the package that it did not give', () => {
  const output =
    'WARNING: Retrying after connection broken by NewConnectionError\nERROR: No matching distribution found for numpy==2.4.6';
  expect(said(output)).toMatch(/The network cannot be reached/);
});

test('a package that the sources do not have is named', () => {
  expect(said('ERROR: No matching distribution found for numpy==2.4.6 (from -r x)')).toMatch(
    /do not have numpy==2\.4\.6 for this Python/,
  );
});

test('a package that is not the one of the lock file, and a proxy that is not trusted', () => {
  expect(said('ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.')).toMatch(
    /not the one that the lock/,
  );
  expect(
    said('SSLError(SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")) Max retries exceeded'),
  ).toMatch(/certificate is not trusted/);
});

test('anything else is told in the words of the tool', () => {
  expect(said('line\nERROR: the wheel is of wood.\nhint: none')).toBe(
    'Installing the Python packages failed: ERROR: the wheel is of wood. Running the command again repairs a half-made installation.',
  );
});
