import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FolderInUse, FolderUnusable, ownFolder } from './own-folder.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'own-folder-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

test('one owner at a time', () => {
  const letGo = ownFolder(folder);
  expect(() => ownFolder(folder)).toThrow(FolderInUse);
  letGo();
  ownFolder(folder)();
});

test('a killed owner leaves no lock behind', async () => {
  const script = `import(${JSON.stringify(join(import.meta.dirname, 'own-folder.ts'))}).then(({ ownFolder }) => {
    ownFolder(${JSON.stringify(folder)}); console.log('owned'); setInterval(() => {}, 1000); });`;
  const owner = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(owner.stdout, 'data');
  expect(() => ownFolder(folder)).toThrow(FolderInUse);
  owner.kill('SIGKILL');
  await once(owner, 'exit');
  ownFolder(folder)();
});

test('what it makes is for this user alone', () => {
  const inner = join(folder, 'not', 'there', 'yet');
  ownFolder(inner)();
  expect(statSync(inner).mode & 0o777).toBe(0o700);
  expect(statSync(join(inner, 'owner.lock')).mode & 0o777).toBe(0o600);
});

describe('a folder that cannot be used is no folder in use', () => {
  const refusal = (path: string) => {
    try {
      ownFolder(path)();
    } catch (error) {
      expect(error).toBeInstanceOf(FolderUnusable);
      return (error as Error).message;
    }
    throw new Error('it was owned');
  };
  const advice = 'Choose another with --data-dir or DATA_DIR';

  test('a file', async () => {
    const file = join(folder, 'file');
    await writeFile(file, '');
    expect(refusal(file)).toBe(
      `The data folder ${file} cannot be used (it is a file, not a folder). ${advice}.`,
    );
    expect(refusal(join(file, 'below'))).toContain('(it is a file, not a folder)');
  });

  test('a lock file that something else has written', async () => {
    await writeFile(join(folder, 'owner.lock'), 'x'.repeat(5_000));
    expect(refusal(folder)).toBe(
      `The data folder ${folder} cannot be used (file is not a database). ${advice}, or delete owner.lock in it.`,
    );
  });

  const onLinux = existsSync('/proc/self') ? test : test.skip;
  onLinux('where the system makes no folders, and Node would try for ever', () => {
    expect(refusal('/proc/zeroscribe/data')).toContain(
      'The data folder /proc/zeroscribe/data cannot be used (',
    );
  });
});
