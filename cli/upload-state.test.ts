import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type KeptUpload, UploadStates } from './upload-state.ts';

const file = { path: '/recordings/talk.wav', sizeBytes: 20_000_000, modifiedMs: 1_700_000_000_123 };
const upload = (lifeMs = 60_000): KeptUpload => ({
  kind: 'direct',
  upload_id: 'up_1',
  url: 'https://storage.example/session?upload_id=capability',
  headers: {},
  expires_at: new Date(Date.now() + lifeMs).toISOString(),
});

let folder: string;
let states: UploadStates;
const account = { server: 'https://transcribe.example', apiKey: 'zeroscribe-key' };

beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), 'states-')), 'zeroscribe', 'uploads');
  states = new UploadStates(account, folder);
});
afterEach(() => rm(join(folder, '..', '..'), { recursive: true, force: true }));

test('an upload is found again by another run, until it is forgotten', async () => {
  expect(states.find(file)).toBeUndefined();
  expect(await states.keep(file, upload())).toBe(true);
  expect(new UploadStates(account, folder).find(file)).toMatchObject({ upload_id: 'up_1' });
  states.forget(file);
  expect(states.find(file)).toBeUndefined();
  expect(await readdir(folder)).toEqual([]);
});

test('it belongs to one service, one key and one state of the file', async () => {
  await states.keep(file, upload());
  expect(new UploadStates({ ...account, apiKey: 'other' }, folder).find(file)).toBeUndefined();
  expect(new UploadStates({ ...account, server: 'https://b' }, folder).find(file)).toBeUndefined();
  expect(states.find({ ...file, modifiedMs: file.modifiedMs + 1 })).toBeUndefined();
  expect(states.find({ ...file, sizeBytes: 1 })).toBeUndefined();
  expect(states.find({ ...file, path: '/recordings/talk2.wav' })).toBeUndefined();
  expect(states.find(file)).toBeDefined();
});

test('only the user can read it, and the key is not in it', async () => {
  await states.keep(file, upload());
  const [name = ''] = await readdir(folder);
  expect((await stat(join(folder, name))).mode & 0o777).toBe(0o600);
  expect((await stat(folder)).mode & 0o777).toBe(0o700);
  expect(name + (await readFile(join(folder, name), 'utf8'))).not.toContain(account.apiKey);
});

test('what has expired or is damaged is removed', async () => {
  await states.keep(file, upload(-1));
  await writeFile(join(folder, 'half.json'), '{"kind":"tus",');
  expect(states.find(file)).toBeUndefined();
  expect(await readdir(folder)).toEqual([]);
});

test('where nothing can be written, it is not kept and nothing fails', async () => {
  const nowhere = new UploadStates(account, '/proc/nowhere/uploads');
  expect(await nowhere.keep(file, upload())).toBe(false);
  expect(nowhere.find(file)).toBeUndefined();
  nowhere.forget(file);
});
