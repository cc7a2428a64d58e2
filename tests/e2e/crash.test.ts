import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Client } from '../../cli/client.ts';
import { readInstallation } from '../../core/installation.ts';
import { JobRecord } from '../../core/job.ts';
import { jobKey } from '../../core/objects.ts';
import { SqliteRecords } from '../../core/records/sqlite-records.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { openDatabase } from '../../core/sqlite.ts';
import { childrenOf, isRunning } from '../support/processes.ts';
import { type Service, startService } from '../support/service.ts';
import { submit, waitUntilSettled } from '../support/submit.ts';
import { waitFor } from '../support/wait-for.ts';

const installation = readInstallation();
/** Short chunks, so that there is more than one batch of eight; the words are the same every time. */
const OPTIONS = { language: 'en', chunk_size: '2' };

let folder: string;
const recording = sampleRecording(installation.python);
let service: Service | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'zeroscribe-crash-'));
});

afterEach(async () => {
  await service?.stop();
  await rm(folder, { recursive: true });
});

const start = async (): Promise<Client> => {
  service = await startService(join(folder, 'data'), { WHISPER_MODEL: installation.packaged_model.name });
  return new Client(service.url);
};

/** What the service has written so far, read past it. */
async function readRecord(id: string): Promise<JobRecord> {
  const database = openDatabase(join(folder, 'data', 'zeroscribe.sqlite'));
  try {
    const stored = await new SqliteRecords(database).read(jobKey({ owner: 'local', id }));
    return JobRecord.parse(stored?.value);
  } finally {
    database.close();
  }
}

const storedParts = ({ checkpoints }: JobRecord): number =>
  checkpoints.transcribe.reduce((sum, { parts }) => sum + parts, 0);

/** How many chunks each attempt found stored when it began to transcribe. */
const chunksFoundStored = ({ log }: Service): unknown[] =>
  log.filter(({ message }) => message === 'transcribing what is not stored yet').map(({ stored }) => stored);

/** undefined: a folder has gone while they were being counted. */
async function countStoredBlobs(): Promise<number | undefined> {
  const blobs = join(folder, 'data', 'blobs');
  const entries = await readdir(blobs, { recursive: true, withFileTypes: true }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    },
  );
  return entries?.filter((entry) => entry.isFile()).length;
}

describe('kill -9', () => {
  test('of the whole service in mid-job: after a restart the job completes once, from its last checkpoint', async () => {
    const client = await start();
    const first = service as Service;
    const { id } = await submit(client, recording, OPTIONS);
    await waitFor('a stored batch', async () => storedParts(await readRecord(id)) > 0, {
      timeoutMs: 180_000,
      intervalMs: 100,
    });
    const sidecars = childrenOf(first.process.pid as number);
    await first.kill();
    const atCrash = await readRecord(id);
    expect(atCrash.status).toBe('processing');
    // The sidecar sees the end of its inbox.
    await waitFor('the end of the sidecar', () => !sidecars.some(isRunning));

    const restarted = await start();
    const settled = await waitUntilSettled(restarted, id);
    expect(settled).toMatchObject({ status: 'completed', attempt: 2 });
    const [stored] = chunksFoundStored(service as Service);
    expect(stored).toBeGreaterThan(0);

    const undisturbed = await submit(restarted, recording, OPTIONS);
    await waitUntilSettled(restarted, undisturbed.id);
    const text = await restarted.transcript(undisturbed.id, 'txt');
    expect(await restarted.transcript(id, 'txt')).toBe(text);
    // One job each, and of each the media, the playable copy and one transcript.
    expect((await restarted.list()).data).toHaveLength(2);
    await waitFor('the leftovers to be gone', async () => (await countStoredBlobs()) === 6);
  }, 300_000);

  test('of the sidecar alone: the job goes on from its last checkpoint', async () => {
    const client = await start();
    const { id } = await submit(client, recording, OPTIONS);
    await waitFor('a stored batch', async () => storedParts(await readRecord(id)) > 0, {
      timeoutMs: 180_000,
      intervalMs: 100,
    });
    const [sidecar] = childrenOf(service?.process.pid as number);
    process.kill(sidecar as number, 'SIGKILL');
    expect((await waitUntilSettled(client, id)).status).toBe('completed');
    const [before, after] = chunksFoundStored(service as Service);
    expect(before).toBe(0);
    expect(after).toBeGreaterThan(0);
  }, 300_000);
});
