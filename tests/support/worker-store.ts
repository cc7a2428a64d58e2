import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DiskBlobs } from '../../core/blobs/disk-blobs.ts';
import { JobRecord } from '../../core/job.ts';
import { createLog } from '../../core/log.ts';
import { activeKey, audioKey, type JobRef, jobKey, mediaKey, newJobId } from '../../core/objects.ts';
import { parseOptions } from '../../core/options.ts';
import { SqliteQueue } from '../../core/queue/sqlite-queue.ts';
import { SqliteRecords } from '../../core/records/sqlite-records.ts';
import { openDatabase } from '../../core/sqlite.ts';
import { newJobRecord } from '../../core/tasks/new-job.ts';
import { CPU_QUEUE, jobTask } from '../../core/tasks/task.ts';
import type { Timing, WorkerContext } from '../../core/tasks/worker-context.ts';
import type { SourceAccess } from '../../cpu-service/fetch-source.ts';

/** Short enough that a test can see a lease run out. */
export const TEST_TIMING: Timing = { leaseMs: 400, renewMs: 100, progressMs: 20 };

export interface WorkerStore extends WorkerContext {
  queue: SqliteQueue;
  records: SqliteRecords;
  blobs: DiskBlobs;
  /** Another worker on the same store. */
  as(holder: string): WorkerStore;
  /** Puts a job into the store as the API does, and its ingest task on the queue. */
  submit(fields?: Record<string, unknown>, media?: Uint8Array | string): Promise<JobRef>;
  /** The same for one that has been through ingest: nothing is on a queue. */
  submitDecoded(backend: string): Promise<JobRef>;
  record(job: JobRef): Promise<JobRecord>;
  change(job: JobRef, change: (record: JobRecord) => void): Promise<void>;
  remove(): Promise<void>;
}

/** For jobs whose media is in the store. */
export const NO_ACCESS: SourceAccess = {
  openStorage: () => Promise.reject(new Error('nobody should ask for Cloud Storage here')),
  linkNetworks: [],
  gcsSources: [],
  maxUploadBytes: 1_000_000_000,
};

/** The local adapters in a folder of their own. */
export async function makeWorkerStore(): Promise<WorkerStore> {
  const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-store-'));
  const database = openDatabase(join(folder, 'store.sqlite'));
  const store: WorkerStore = {
    blobs: new DiskBlobs(join(folder, 'blobs')),
    records: new SqliteRecords(database),
    queue: new SqliteQueue(database),
    log: createLog('test', { level: 'silent' }),
    backends: [{ name: 'standalone', kind: 'standalone', tier: 'premium' }],
    holder: 'worker-1',
    timing: TEST_TIMING,
    as: (holder) => ({ ...store, holder }),
    async submit(fields = {}, media = 'media') {
      const job = { owner: 'local', id: newJobId() };
      await store.records.create(activeKey(job), {});
      const { sizeBytes } = await store.blobs.write(mediaKey(job), Buffer.from(media), {
        contentType: 'audio/wav',
      });
      const record = newJobRecord(job, {
        ...parseOptions(fields),
        source: {
          type: 'upload',
          address: null,
          filename: 'a.wav',
          content_type: 'audio/wav',
          bytes: sizeBytes,
          sha256: '',
        },
        routing: { chosen: 'standalone', because: 'it is the only one', alternatives: [] },
        model: null,
        idempotencyHash: null,
        nowMs: Date.now(),
      });
      await store.records.create(jobKey(job), record, { label: 'queued' });
      await store.queue.enqueue(jobTask(CPU_QUEUE, job, 'ingest', 1));
      return job;
    },
    async submitDecoded(backend) {
      const job = await store.submit();
      const audio = audioKey(job, 1);
      await store.blobs.write(audio, 'audio', { contentType: 'audio/flac' });
      await store.change(job, (record) => {
        record.status = 'processing';
        record.epoch = 1;
        record.tries.ingest = { attempt: 1, part: 1 };
        record.duration_seconds = 60;
        record.objects.audio = [audio];
        record.backend = backend;
        record.routing = { chosen: backend, because: 'it comes first', alternatives: [] };
      });
      store.queue.acknowledge(store.queue.take(CPU_QUEUE, 60_000)?.receipt as string);
      return job;
    },
    async record(job) {
      const stored = await store.records.read(jobKey(job));
      return JobRecord.parse(stored?.value);
    },
    async change(job, change) {
      const stored = await store.records.read(jobKey(job));
      if (stored === undefined) throw new Error('there is no such job');
      const record = JobRecord.parse(stored.value);
      change(record);
      await store.records.replace(stored.key, record, stored.generation, { label: record.status });
    },
    async remove() {
      database.close();
      await rm(folder, { recursive: true });
    },
  };
  return store;
}
