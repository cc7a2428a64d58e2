import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { toServiceError } from '../problem.ts';
import { describeBlobs, failingBody, listKeys } from './blobs.contract.ts';
import { DiskBlobs } from './disk-blobs.ts';

const TEXT = { contentType: 'text/plain' };

describeBlobs('DiskBlobs', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'blobs-'));
  return {
    blobs: new DiskBlobs(path.join(folder, 'store')),
    expectNothingLeftBehind: async () => expect(await incoming(path.join(folder, 'store'))).toEqual([]),
    dispose: () => rm(folder, { recursive: true, force: true }),
  };
});

describe('DiskBlobs', () => {
  let folder: string;
  let blobs: DiskBlobs;

  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'blobs-'));
    blobs = new DiskBlobs(folder);
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  test('keeps a blob where its key says, so that another process can read it there', async () => {
    await blobs.write('media/local/x', 'text', TEXT);
    expect(blobs.localPath('media/local/x')).toBe(path.join(folder, 'media/local/x'));
    expect((await stat(blobs.localPath('media/local/x'))).size).toBe(4);
  });

  test('lets nobody but its own user read a recording', async () => {
    await blobs.write('a', 'text', TEXT);
    expect((await stat(path.join(folder, 'a'))).mode & 0o777).toBe(0o600);
  });

  const OUTSIDE = [
    '',
    '.',
    '..',
    '../outside',
    'a/../../outside',
    'a/..',
    '/etc/passwd',
    'a//b',
    'a/',
    './a',
    '.incoming/a',
    'a/.hidden',
    'a\\..\\b',
    'C:\\x',
    'a\0b',
    'a\n',
    'ü',
  ];
  test.each(OUTSIDE)('refuses the key %j, whatever is asked', async (key) => {
    for (const ask of [
      () => blobs.write(key, 'x', TEXT),
      () => blobs.read(key),
      () => blobs.stat(key),
      () => blobs.delete(key),
      async () => blobs.localPath(key),
    ]) {
      await expect(ask()).rejects.toThrow('not a key');
    }
  });

  test('never leads out of its folder', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('.', '/', '\\', 'a', '-', '\0') }), (key) => {
        let file: string;
        try {
          file = blobs.localPath(key);
        } catch {
          return;
        }
        expect(path.relative(folder, file)).toBe(key);
        expect(file.startsWith(`${folder}${path.sep}`)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  test.each(['..', '../', '/', './', 'a//', '.'])('refuses the prefix %j', async (prefix) => {
    await expect(listKeys(blobs, prefix)).rejects.toThrow('not a prefix');
    await expect(blobs.deletePrefix(prefix)).rejects.toThrow('not a prefix');
  });

  test('ends the body of a write that it refuses', async () => {
    const body = Readable.from(['x']);
    await expect(blobs.write('../x', body, TEXT)).rejects.toThrow('not a key');
    expect(body.destroyed).toBe(true);
  });

  test('does not list files that are no blobs', async () => {
    await blobs.write('a', 'x', TEXT);
    await writeFile(path.join(folder, '.DS_Store'), '');
    await writeFile(path.join(folder, 'name with spaces'), '');
    expect(await listKeys(blobs, '')).toEqual(['a']);
  });

  test('leaves no empty folders behind, and no folder less than there was', async () => {
    await blobs.write('a/b/c/1', 'x', TEXT);
    await blobs.write('a/2', 'x', TEXT);
    await blobs.delete('a/b/c/1');
    expect(await readdir(path.join(folder, 'a'))).toEqual(['2']);
    await blobs.deletePrefix('a/');
    expect((await readdir(folder)).filter((name) => name !== '.incoming')).toEqual([]);
    await blobs.delete('a/2');
    expect(await readdir(path.dirname(folder))).toContain(path.basename(folder));
  });

  test('sweeps what a crash left behind, and only that', async () => {
    await blobs.sweepIncoming();
    await blobs.write('a', 'x', TEXT);
    await mkdir(path.join(folder, '.incoming'), { recursive: true });
    await writeFile(path.join(folder, '.incoming', 'half'), 'x');
    await blobs.sweepIncoming();
    expect(await incoming(folder)).toEqual([]);
    expect(await listKeys(blobs, '')).toEqual(['a']);
    await blobs.write('b', 'x', TEXT);
  });

  test('a full disk that a body reports is storage-full, and nothing is kept', async () => {
    const error = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
    const failure = await blobs.write('a', failingBody(error), TEXT).catch(toServiceError);
    expect(failure).toMatchObject({ slug: 'storage-full' });
    expect(await incoming(folder)).toEqual([]);
  });

  test('a disk that is really full is storage-full, and nothing is kept', async () => {
    const isMounted = mountSmallDisk(folder);
    if (!isMounted) {
      process.stderr.write('skipped: only root on Linux can mount a small disk to fill\n');
      return;
    }
    try {
      await blobs.write('small', 'x'.repeat(1_000), TEXT);
      for (const body of [
        Buffer.alloc(1_000_000),
        Readable.from([Buffer.alloc(500_000), Buffer.alloc(500_000)]),
      ]) {
        const failure = await blobs.write('big', body, TEXT).catch(toServiceError);
        expect(failure).toMatchObject({ slug: 'storage-full' });
      }
      expect(await incoming(folder)).toEqual([]);
      await blobs.write('small', 'y'.repeat(1_000), TEXT);
      expect(await listKeys(blobs, '')).toEqual(['small']);
    } finally {
      execFileSync('umount', [folder]);
    }
  });
});

async function incoming(folder: string): Promise<string[]> {
  try {
    return await readdir(path.join(folder, '.incoming'));
  } catch {
    return [];
  }
}

function mountSmallDisk(folder: string): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false;
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', folder], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
