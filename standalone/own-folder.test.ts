import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { FolderInUse, ownFolder } from './own-folder.ts';

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
