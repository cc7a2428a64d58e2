import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { waitFor } from '../../tests/support/wait-for.ts';
import { toServiceError } from '../problem.ts';
import { describeBlobs, failingBody, listKeys } from './blobs.contract.ts';
import { BlobNotFound, type PartialBlob } from './blobs.ts';
import { DiskBlobs } from './disk-blobs.ts';

const TEXT = { contentType: 'text/plain' };

describeBlobs('DiskBlobs', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'blobs-'));
  return {
    blobs: new DiskBlobs(path.join(folder, 'store')),
    reopen: () => new DiskBlobs(path.join(folder, 'store')),
    expectNothingLeftBehind: async () => {
      expect(await incoming(path.join(folder, 'store'))).toEqual([]);
      expect(await filesIn(path.join(folder, 'store', '.partial'))).toEqual([]);
    },
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
      () => blobs.copy(key, 'b'),
      () => blobs.copy('b', key),
      () => blobs.startPartial(key, { ...TEXT, sizeBytes: 1 }),
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

  describe('a partial blob', () => {
    const BYTES = Buffer.from('0123456789');
    const start = () => blobs.startPartial('media/a', { ...TEXT, sizeBytes: BYTES.length });
    const append = (partial: PartialBlob, at: number, end = BYTES.length) =>
      blobs.appendPartial(partial, at, Readable.from([BYTES.subarray(at, end)]));
    const fileOf = ({ session }: PartialBlob) => path.join(folder, '.partial', session.split('.')[0] ?? '');

    test('can be read by nobody but its own user', async () => {
      expect((await stat(fileOf(await start()))).mode & 0o777).toBe(0o600);
    });

    test('is not swept with what interrupted writes left behind', async () => {
      const partial = await start();
      await append(partial, 0, 4);
      await blobs.sweepIncoming();
      expect(await blobs.storedBytes(partial)).toBe(4);
    });

    test('is swept when nothing was added to it for long, and canceled by nobody', async () => {
      await blobs.sweepPartials(0);
      const [forgotten, alive] = [await start(), await start()];
      const longAgo = new Date(Date.now() - 100_000);
      await utimes(fileOf(forgotten), longAgo, longAgo);
      await blobs.sweepPartials(90_000);
      expect(await blobs.storedBytes(forgotten)).toBeUndefined();
      expect(await blobs.storedBytes(alive)).toBe(0);
    });

    // What a process leaves that was killed between two lines.
    test.each([
      ['asked for', (partial: PartialBlob) => blobs.storedBytes(partial)],
      ['added to', (partial: PartialBlob) => append(partial, BYTES.length)],
    ])('of which only the name was missing has it after it was %s', async (_, ask) => {
      const partial = await start();
      await writeFile(fileOf(partial), BYTES);
      expect(await ask(partial)).toBe(BYTES.length);
      expect(await readFile(path.join(folder, 'media/a'), 'utf8')).toBe('0123456789');
      expect(await filesIn(path.join(folder, '.partial'))).toEqual([]);
      expect(await blobs.storedBytes(partial)).toBe(BYTES.length);
    });

    test('goes on after whatever a killed process had written', async () => {
      const partial = await start();
      await writeFile(fileOf(partial), BYTES.subarray(0, 7));
      expect(await blobs.storedBytes(partial)).toBe(7);
      await expect(append(partial, 4)).rejects.toMatchObject({ storedBytes: 7 });
      expect(await append(partial, 7)).toBe(BYTES.length);
      expect(await readFile(path.join(folder, 'media/a'), 'utf8')).toBe('0123456789');
    });

    test('that is canceled while a body comes in fails, and leaves nothing', async () => {
      const partial = await start();
      const body = new PassThrough();
      body.write('0123');
      const appending = blobs.appendPartial(partial, 0, body);
      await waitFor('the bytes', async () => (await stat(fileOf(partial))).size === 4);
      await blobs.cancelPartial(partial);
      body.end('456789');
      await expect(appending).rejects.toBeInstanceOf(BlobNotFound);
      expect((await readdir(folder)).filter((name) => !name.startsWith('.'))).toEqual([]);
    });

    test('takes one body at a time; who gives up waiting lets the others wait', async () => {
      const partial = await start();
      const first = new PassThrough();
      const appending = blobs.appendPartial(partial, 0, first);
      const controller = new AbortController();
      const aborted = blobs.appendPartial(partial, 0, Readable.from(['x']), { signal: controller.signal });
      const third = append(partial, 0);
      controller.abort(new Error('asked to stop'));
      await expect(aborted).rejects.toThrow('asked to stop');
      const fourth = append(partial, 0);
      first.end('0123');
      expect(await appending).toBe(4);
      await expect(third).rejects.toMatchObject({ name: 'PartialConflict', storedBytes: 4 });
      await expect(fourth).rejects.toMatchObject({ name: 'PartialConflict', storedBytes: 4 });
      await append(partial, 4);
      expect(await readFile(path.join(folder, 'media/a'), 'utf8')).toBe('0123456789');
    });

    test.each(['', '../media/a', '/etc/passwd', '0.1'])('has no session %j', async (session) => {
      const partial = { ...(await start()), session };
      await expect(blobs.storedBytes(partial)).rejects.toThrow('not a session');
      await expect(append(partial, 0)).rejects.toThrow('not a session');
      await expect(blobs.cancelPartial(partial)).rejects.toThrow('not a session');
    });
  });

  test('a copy is no second file', async () => {
    await blobs.write('a', 'text', TEXT);
    await blobs.copy('a', 'b/c');
    const inodes = await Promise.all(['a', 'b/c'].map(async (key) => (await stat(blobs.localPath(key))).ino));
    expect(inodes[0]).toBe(inodes[1]);
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

const incoming = (folder: string) => filesIn(path.join(folder, '.incoming'));

async function filesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
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
