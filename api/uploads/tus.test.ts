import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Storage } from '@google-cloud/storage';
import { DiskBlobs } from '../../core/blobs/disk-blobs.ts';
import { GcsBlobs } from '../../core/blobs/gcs-blobs.ts';
import { GcsRecords } from '../../core/records/gcs-records.ts';
import type { Records } from '../../core/records/records.ts';
import { SqliteRecords } from '../../core/records/sqlite-records.ts';
import { openDatabase } from '../../core/sqlite.ts';
import { startFakeCloudStorage } from '../../tests/support/fake-cloud-storage/fake-cloud-storage.ts';
import { describeTus } from './tus.contract.ts';

async function keysOf(records: Records): Promise<string[]> {
  return (await records.list({ prefix: '', limit: 1_000 })).records.map(({ key }) => key);
}

describeTus('a folder and SQLite', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tus-'));
  const database = openDatabase(join(folder, 'records.sqlite'));
  const records = new SqliteRecords(database);
  const blobFolder = join(folder, 'blobs');
  return {
    blobs: new DiskBlobs(blobFolder),
    records,
    everything: async () => {
      const entries = await readdir(blobFolder, { recursive: true, withFileTypes: true }).catch(() => []);
      const files = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
      return [...files, ...(await keysOf(records))];
    },
    dispose: async () => {
      database.close();
      await rm(folder, { recursive: true });
    },
  };
});

describeTus('Cloud Storage', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tus-'));
  const fake = await startFakeCloudStorage({ folder, buckets: ['bucket'] });
  const bucket = new Storage({ apiEndpoint: fake.url, projectId: 'test' }).bucket('bucket');
  const blobs = new GcsBlobs(bucket);
  return {
    blobs,
    records: new GcsRecords(bucket),
    // Records are objects too.
    everything: async () => {
      const keys: string[] = [];
      for await (const { key } of blobs.list('')) keys.push(key);
      return [...keys, ...fake.leftovers()];
    },
    dispose: async () => {
      await fake.close();
      await rm(folder, { recursive: true });
    },
  };
});
