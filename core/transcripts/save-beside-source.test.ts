import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Storage } from '@google-cloud/storage';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import {
  type FakeCloudStorage,
  startFakeCloudStorage,
} from '../../tests/support/fake-cloud-storage/fake-cloud-storage.ts';
import { parseOptions } from '../options.ts';
import type { Transcript } from '../transcript.ts';
import { saveBesideSource } from './save-beside-source.ts';

const TRANSCRIPT: Transcript = {
  language: 'en',
  duration: 2,
  text: 'Hello.',
  words_from: null,
  segments: [{ id: 0, start: 0, end: 1, text: 'Hello.' }],
  speakers: [],
};

let folder: string;
let fake: FakeCloudStorage;
let storage: Storage;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'save-beside-'));
  fake = await startFakeCloudStorage({ folder: join(folder, 'cloud'), buckets: ['talks'] });
  storage = new Storage({ apiEndpoint: fake.url, projectId: 'project' });
});
afterEach(async () => {
  await fake.close();
  await rm(folder, { recursive: true });
});

function save(address: string, prefix = '', text = 'Hello.'): Promise<void> {
  const { options } = parseOptions({ save_beside_source: 'srt,txt' });
  const source = { type: 'gcs', address, filename: null, content_type: '', bytes: 1, sha256: null } as const;
  return saveBesideSource(
    { openStorage: async () => storage, gcsSources: [{ bucket: 'talks', prefix }] },
    { id: 'tr_0000000000000000000', source, options },
    { ...TRANSCRIPT, segments: [{ id: 0, start: 0, end: 1, text }] },
    new AbortController().signal,
  );
}

async function read(name: string): Promise<string> {
  return (await storage.bucket('talks').file(name).download())[0].toString();
}

test('writes each format beside the source, under its name', async () => {
  await save('gs://talks/2026/board.final.mp4');
  expect(await read('2026/board.final.txt')).toBe('Hello.\n');
  expect(await read('2026/board.final.srt')).toContain('00:00:00,000 --> 00:00:01,000');
});

test('replaces what an earlier transcription wrote there', async () => {
  await save('gs://talks/board.mp4');
  await save('gs://talks/board.mp4', '', 'Good bye.');
  expect(await read('board.txt')).toBe('Good bye.\n');
});

test('leaves alone what somebody else put there, and says what to do', async () => {
  await storage.bucket('talks').file('board.txt').save('notes of mine', { resumable: false });
  await expect(save('gs://talks/board.mp4')).rejects.toMatchObject({
    slug: 'gcs-source-refused',
    message: expect.stringContaining('board.txt'),
  });
  expect(await read('board.txt')).toBe('notes of mine');
});

test('writes nothing outside what the operator allows', async () => {
  await expect(save('gs://talks/board.mp4', 'open/')).rejects.toMatchObject({ slug: 'gcs-source-refused' });
  const [files] = await storage.bucket('talks').getFiles();
  expect(files).toEqual([]);
});
