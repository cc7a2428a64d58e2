import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Storage } from '@google-cloud/storage';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  type FakeCloudStorage,
  startFakeCloudStorage,
} from '../../tests/support/fake-cloud-storage/fake-cloud-storage.ts';
import {
  type FakeGcsServer,
  findFakeGcsServer,
  startFakeGcsServer,
} from '../../tests/support/fake-gcs-server.ts';
import { CloudStorageError, type Patience } from '../cloud-storage/gcs-api.ts';
import { GcsRecords } from './gcs-records.ts';
import { describeRecords } from './records.contract.ts';
import { RecordConflict } from './records.ts';

/** Loses no time over the failures that these tests cause. */
const IMPATIENT: Patience = {
  attemptMs: 750,
  totalMs: 10_000,
  minBytesPerMs: 128,
  backoff: { minMs: 5, maxMs: 20, maxDoublings: 3 },
};

function openRecords(url: string, bucket: string, patience: Partial<Patience> = {}): GcsRecords {
  const storage = new Storage({ apiEndpoint: url, projectId: 'project' });
  return new GcsRecords(storage.bucket(bucket), { patience });
}

describeRecords('GcsRecords', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'gcs-records-'));
  const fake = await startFakeCloudStorage({ folder, buckets: ['bucket'] });
  return {
    records: openRecords(fake.url, 'bucket'),
    others: openRecords(fake.url, 'bucket'),
    ageToleranceMs: 1_000,
    dispose: async () => {
      await fake.close();
      await rm(folder, { recursive: true });
    },
  };
});

const binary = await findFakeGcsServer();
(binary === undefined ? describe.skip : describe)('against fake-gcs-server', () => {
  let server: FakeGcsServer;
  beforeAll(async () => {
    server = await startFakeGcsServer(binary ?? '');
  });
  afterAll(() => server.stop());

  describeRecords('GcsRecords', async () => {
    const bucket = crypto.randomUUID();
    await server.createBucket(bucket);
    return {
      records: openRecords(server.url, bucket),
      others: openRecords(server.url, bucket),
      ageToleranceMs: 1_000,
      dispose: async () => {},
    };
  });
});

describe('GcsRecords', () => {
  let folder: string;
  let fake: FakeCloudStorage;
  let records: GcsRecords;
  let nowMs: number;

  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'gcs-records-'));
    nowMs = Date.parse('2030-01-01T00:00:00.900Z');
    fake = await startFakeCloudStorage({ folder, buckets: ['bucket'], now: () => nowMs });
    records = openRecords(fake.url, 'bucket', IMPATIENT);
  });
  afterEach(async () => {
    await fake.close();
    await rm(folder, { recursive: true });
  });

  const inserts = () => fake.requests.filter(({ operation }) => operation === 'insert');

  test('counts the age by the clock of the store alone, in whole seconds', async () => {
    await records.create('a', 1);
    nowMs += 61_000;
    expect(await records.read('a')).toMatchObject({ ageMs: 61_000 });
    nowMs += 99;
    expect(await records.read('a')).toMatchObject({ ageMs: 61_000 });
    nowMs += 1;
    expect(await records.read('a')).toMatchObject({ ageMs: 62_000 });
    nowMs -= 3_600_000;
    expect(await records.read('a')).toMatchObject({ ageMs: 0 });
  });

  test('reads a record with one request', async () => {
    await records.create('a', 1);
    fake.requests.length = 0;
    await records.read('a');
    expect(fake.requests.map(({ operation }) => operation)).toEqual(['download']);
  });

  test('shows the label where the objects are listed', async () => {
    await records.create('a', 1, { label: 'queued' });
    const [metadata] = await new Storage({ apiEndpoint: fake.url, projectId: 'p' })
      .bucket('bucket')
      .file('a')
      .getMetadata();
    expect(metadata).toMatchObject({ metadata: { label: 'queued' }, contentType: 'application/json' });
  });

  describe.each([
    ['is lost', { kind: 'lose-reply' }],
    ['does not come in time', { kind: 'late', ms: 250 }],
  ] as const)('when the reply to a write %s', (_, fault) => {
    test('a create that took place is not a conflict', async () => {
      fake.inject({ ...fault, operation: 'insert' });
      const generation = await records.create('a', 1);
      expect(await records.read('a')).toMatchObject({ value: 1, generation });
      await expect(records.create('a', 2)).rejects.toBeInstanceOf(RecordConflict);
    });

    test('a replace that took place is not a conflict', async () => {
      const first = await records.create('a', 1);
      fake.inject({ ...fault, operation: 'insert' });
      const second = await records.replace('a', 2, first);
      expect(await records.read('a')).toMatchObject({ value: 2, generation: second });
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(await records.read('a')).toMatchObject({ value: 2, generation: second });
    });
  });

  test('a replace that did not take place, while somebody else wrote, is a conflict', async () => {
    const first = await records.create('a', 1);
    fake.inject({ kind: 'stall', operation: 'insert' });
    const replacing = records.replace('a', 'ours', first);
    await openRecords(fake.url, 'bucket').replace('a', 'theirs', first);
    await expect(replacing).rejects.toBeInstanceOf(RecordConflict);
    expect(await records.read('a')).toMatchObject({ value: 'theirs' });
  });

  test('a plain conflict is found with one request', async () => {
    const first = await records.create('a', 1);
    await records.replace('a', 2, first);
    fake.requests.length = 0;
    await expect(records.replace('a', 3, first)).rejects.toBeInstanceOf(RecordConflict);
    expect(fake.requests).toHaveLength(1);
  });

  test.each([429, 500, 503])('tries again after %i', async (status) => {
    const generation = await records.create('a', 1);
    fake.inject({ kind: 'status', status, times: 3 });
    await records.replace('a', 2, generation);
    fake.inject({ kind: 'status', status, times: 3 });
    expect(await records.read('a')).toMatchObject({ value: 2 });
    fake.inject({ kind: 'status', status, times: 3 });
    expect((await records.list({ prefix: 'a', limit: 1 })).records).toMatchObject([{ value: 2 }]);
    fake.inject({ kind: 'status', status, times: 3 });
    await records.delete('a');
    expect(await records.read('a')).toBeUndefined();
  });

  test.each(['stall', 'break', 'truncate'] as const)('reads again what came with a %s', async (kind) => {
    await records.create('a', { text: 'x'.repeat(1_000) });
    fake.inject({ kind, operation: 'download', afterBytes: 100, times: 2 });
    expect(await records.read('a')).toMatchObject({ value: { text: 'x'.repeat(1_000) } });
  });

  test('gives up in time, and says what Cloud Storage said', async () => {
    const hasty = openRecords(fake.url, 'bucket', { ...IMPATIENT, totalMs: 100 });
    fake.inject({ kind: 'status', status: 503, times: 1_000 });
    const failure = await hasty.read('a').catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(CloudStorageError);
    expect(failure).toMatchObject({ status: 503, message: expect.stringContaining('503') });
  });

  test('does not try again what will be refused again', async () => {
    fake.inject({ kind: 'status', status: 403, times: 1_000 });
    await expect(records.read('a')).rejects.toMatchObject({ status: 403 });
    expect(fake.requests).toHaveLength(1);
  });

  test('a bucket that does not exist is an error, not an empty store', async () => {
    const elsewhere = openRecords(fake.url, 'no-bucket', IMPATIENT);
    await expect(elsewhere.create('a', 1)).rejects.toMatchObject({ status: 404 });
    await expect(elsewhere.list({ prefix: '', limit: 1 })).rejects.toMatchObject({ status: 404 });
  });

  test('waits for its turn where an object takes one write a second', async () => {
    await fake.close();
    fake = await startFakeCloudStorage({ folder, limitsRate: true });
    const patient = openRecords(fake.url, 'bucket', { backoff: IMPATIENT.backoff });
    let generation = await patient.create('a', 0);
    for (let i = 1; i <= 2; i++) generation = await patient.replace('a', i, generation);
    expect(await patient.read('a')).toMatchObject({ value: 2, generation });
    expect(inserts().some(({ status }) => status === 429)).toBe(true);
  });

  test('a delete takes a record that somebody replaces meanwhile', async () => {
    const first = await records.create('a', 1);
    fake.inject({ kind: 'late', ms: 60, operation: 'delete' });
    const deleting = records.delete('a');
    await until(() => fake.requests.some(({ operation }) => operation === 'get'));
    await records.replace('a', 2, first);
    await deleting;
    expect(await records.read('a')).toBeUndefined();
  });

  test('a delete that arrives late does not take a record that was made anew', async () => {
    await records.create('a', 'old');
    fake.inject({ kind: 'late', ms: 300, operation: 'delete' });
    await records.delete('a');
    const generation = await records.create('a', 'new');
    await until(() =>
      fake.requests.some(({ operation, fault }) => operation === 'delete' && fault === 'late'),
    );
    expect(await records.read('a')).toMatchObject({ value: 'new', generation });
  });

  test('a page is full although some of its records went while it was read', async () => {
    for (const key of ['p/1', 'p/2', 'p/3', 'p/4']) await records.create(key, key);
    // Long enough for the deletion to come first on any machine.
    fake.inject({ kind: 'late', ms: 2_000, operation: 'download', namePrefix: 'p/1' });
    const listing = records.list({ prefix: 'p/', limit: 2 });
    await until(() => fake.requests.some(({ operation }) => operation === 'list'));
    await records.delete('p/1');
    const page = await listing;
    expect(page.records.map(({ key }) => key)).toEqual(['p/2', 'p/3']);
    expect(page.hasMore).toBe(true);
  });

  test('looks through all pages of the store for a label, however short they are', async () => {
    await fake.close();
    fake = await startFakeCloudStorage({ folder, maxPageSize: 3 });
    records = openRecords(fake.url, 'bucket', IMPATIENT);
    for (let i = 0; i < 10; i++) await records.create(`p/${i}`, i, { label: i < 8 ? 'x' : 'y' });
    const page = await records.list({ prefix: 'p/', limit: 1, label: 'y' });
    expect(page).toMatchObject({ records: [{ key: 'p/8', value: 8 }], hasMore: true });
    expect((await records.list({ prefix: 'p/', limit: 10 })).records).toHaveLength(10);
  });
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
