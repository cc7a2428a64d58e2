import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { Client } from '../cli/client.ts';
import { JobRecord } from '../core/job.ts';
import { createLog } from '../core/log.ts';
import { jobKey } from '../core/objects.ts';
import { SqliteRecords } from '../core/records/sqlite-records.ts';
import { openDatabase } from '../core/sqlite.ts';
import type { Unavailability } from '../gpu-service/supervisor/supervised-sidecar.ts';
import { childPids } from '../tests/support/child-pids.ts';
import { type FakeMode, type FakeOptions, fakeSidecarCommand } from '../tests/support/fake-sidecar.ts';
import { sine, wav } from '../tests/support/media.ts';
import { runCli } from '../tests/support/run-cli.ts';
import { submit } from '../tests/support/submit.ts';
import { waitFor } from '../tests/support/wait-for.ts';
import { readStandaloneConfig } from './config.ts';
import type { Standalone } from './standalone.ts';
import { startStandalone } from './start-standalone.ts';

jest.setTimeout(60_000);

let folder: string;
let recording: string;
let service: Standalone | undefined;
let told: Unavailability[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'standalone-'));
  recording = join(folder, 'talk.wav');
  await writeFile(recording, wav({ seconds: 30 }, sine));
  told = [];
});
afterEach(async () => {
  await service?.stop();
  service = undefined;
  await rm(folder, { recursive: true });
  expect(childPids()).toEqual([]);
});

const dataDir = () => join(folder, 'data');
const environment = (mode: FakeMode, fake: FakeOptions = {}) => ({
  PORT: '0',
  DATA_DIR: dataDir(),
  SIDECAR_COMMAND: JSON.stringify(fakeSidecarCommand(mode, fake)),
});

async function start(mode: FakeMode, fake: FakeOptions = {}): Promise<Client> {
  service = await startStandalone({
    config: readStandaloneConfig(environment(mode, fake)),
    log: createLog('test', { level: 'silent' }),
    onUnavailable: (unavailability) => told.push(unavailability),
  });
  return new Client(service.url);
}

/** Read past the service. */
async function readRecord(id: string): Promise<JobRecord> {
  const database = openDatabase(join(dataDir(), 'zeroscribe.sqlite'));
  try {
    const stored = await new SqliteRecords(database).read(jobKey({ owner: 'local', id }));
    return JobRecord.parse(stored?.value);
  } finally {
    database.close();
  }
}

const health = async (name: string) => (await fetch(`${service?.url}/health/${name}`)).status;

test('a recording that ends the transcriber again and again ends neither the service nor the jobs behind it', async () => {
  const client = await start('crash', { at: 'transcribe' });
  const bad = await submit(client, recording);
  await waitFor('the transcriber to be given up', () => told.length > 0, { timeoutMs: 40_000 });
  expect(told).toMatchObject([{ isFinal: false, reason: expect.stringContaining('SIGKILL') }]);
  expect([await health('live'), await health('ready')]).toEqual([200, 503]);

  const next = await submit(client, recording);
  const waiting = await waitFor('its audio', async () => {
    const record = await readRecord(next.id);
    return record.objects.audio === null ? undefined : record;
  });
  expect(waiting).toMatchObject({ status: 'processing', lease: null, tries: { transcribe: { attempt: 0 } } });
  expect((await readRecord(bad.id)).status).toBe('processing');
});

test('a transcriber that refuses ends the service, and the operator reads its own words', async () => {
  for (const args of [['serve'], ['transcribe', recording]]) {
    const { code, stderr } = await runCli(args, { cwd: folder, env: environment('refused') }).ended;
    expect(stderr).toContain('error: The transcriber cannot start: one of its models is missing');
    expect(stderr).toContain('/srv/models/small has no model.bin');
    expect(code).toBe(1);
  }
});

test('stopping gives back a job whose transcriber is deaf, and does not count the attempt', async () => {
  const client = await start('deaf-to-cancel', { at: 'transcribe' });
  const { id } = await submit(client, recording, { language: 'en' });
  await waitFor('the batch', async () => (await readRecord(id)).stage === 'transcribe', {
    timeoutMs: 20_000,
  });
  expect((await readRecord(id)).tries.transcribe.attempt).toBe(1);
  const startMs = performance.now();
  await service?.stop();
  expect(performance.now() - startMs).toBeLessThan(10_000);
  expect(await readRecord(id)).toMatchObject({ lease: null, tries: { transcribe: { attempt: 0 } } });
});

describe('the data folder', () => {
  test('is for this user alone, and so is the database', async () => {
    await start('good');
    const mode = async (path: string) => (await stat(path)).mode & 0o777;
    expect(await mode(dataDir())).toBe(0o700);
    for (const file of ['zeroscribe.sqlite', 'zeroscribe.sqlite-wal', 'owner.lock'])
      expect(await mode(join(dataDir(), file))).toBe(0o600);
  });

  test('with a database that something has destroyed says what to do', async () => {
    await start('good');
    await service?.stop();
    const path = join(dataDir(), 'zeroscribe.sqlite');
    for (const [offset, reason] of [
      [0, 'file is not a database'],
      [100, 'database disk image is malformed'],
    ] as const) {
      const database = openDatabase(join(folder, `${offset}.sqlite`));
      database.exec('CREATE TABLE x (y); PRAGMA journal_mode = DELETE');
      database.close();
      await rm(path, { force: true });
      await rm(`${path}-wal`, { force: true });
      const bytes = await readFile(join(folder, `${offset}.sqlite`));
      bytes.fill(0x78, offset, offset + 3_000);
      await writeFile(path, bytes);
      await expect(start('good')).rejects.toThrow(
        `The data folder ${dataDir()} cannot be used (${reason}). Choose another with --data-dir or DATA_DIR, or move zeroscribe.sqlite away to begin anew (recordings stay in blobs/).`,
      );
    }
    service = undefined;
  });
});
