import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createApp } from '../../api/app.ts';
import type { ApiDependencies } from '../../api/dependencies.ts';
import { listen } from '../../api/listen.ts';
import { DiskBlobs } from '../../core/blobs/disk-blobs.ts';
import { JobRecord } from '../../core/job.ts';
import { createLog } from '../../core/log.ts';
import { type JobRef, jobKey } from '../../core/objects.ts';
import { SqliteQueue } from '../../core/queue/sqlite-queue.ts';
import { SqliteRecords } from '../../core/records/sqlite-records.ts';
import { openDatabase } from '../../core/sqlite.ts';

/** The API over a folder and SQLite, on a port of its own; no worker takes what it puts on the queue. */
export interface StartedApi {
  url: string;
  port: number;
  blobs: DiskBlobs;
  records: SqliteRecords;
  queue: SqliteQueue;
  /** Lines of the log so far. */
  log: string[];
  /** Everything there is in the store but reconcile's task: keys of blobs and of records. */
  everything(): Promise<string[]>;
  /** Plays the worker. */
  change(job: JobRef, change: (record: JobRecord) => void): Promise<void>;
  stop(): Promise<void>;
}

export async function startApi(
  overrides: Partial<ApiDependencies> = {},
  { port = 0, http2 = false }: { port?: number; http2?: boolean } = {},
): Promise<StartedApi> {
  const folder = await mkdtemp(path.join(tmpdir(), 'api-'));
  const database = openDatabase(path.join(folder, 'records.sqlite'));
  const blobs = new DiskBlobs(path.join(folder, 'blobs'));
  const records = new SqliteRecords(database);
  const queue = new SqliteQueue(database);
  const log: string[] = [];
  const app = createApp({
    blobs,
    records,
    queue,
    log: createLog('api', { destination: { write: (line) => void log.push(line) } }),
    keys: [],
    maxUploadBytes: 1_000_000_000,
    linkNetworks: [],
    gcsSources: [],
    urlSigningKey: 'a key that only this test has',
    publicUrl: undefined,
    backends: [{ name: 'standalone', kind: 'standalone', tier: 'premium' }],
    readiness: () => ({ isReady: true, detail: 'Everything is ready.' }),
    now: Date.now,
    ...overrides,
  });
  const server = await listen(app, { host: '127.0.0.1', port, http2 });
  return {
    url: server.url,
    port: server.port,
    blobs,
    records,
    queue,
    log,
    async everything() {
      const keys: string[] = [];
      for await (const { key } of blobs.list('')) keys.push(key);
      const stored = await records.list({ prefix: '', limit: 1_000 });
      return [...keys, ...stored.records.map(({ key }) => key)];
    },
    async change(job, change) {
      const stored = await records.read(jobKey(job));
      if (stored === undefined) throw new Error(`there is no job ${job.id}`);
      const record = JobRecord.parse(stored.value);
      change(record);
      await records.replace(jobKey(job), record, stored.generation, { label: record.status });
    },
    async stop() {
      await server.close(0);
      database.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
