import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { Storage } from '@google-cloud/storage';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import type { Blobs } from '../core/blobs/blobs.ts';
import { GcsBlobs } from '../core/blobs/gcs-blobs.ts';
import { JobRecord } from '../core/job.ts';
import { transcriptKey } from '../core/objects.ts';
import { ServiceError, toProblem } from '../core/problem.ts';
import { startFakeCloudStorage } from '../tests/support/fake-cloud-storage/fake-cloud-storage.ts';
import { noise } from '../tests/support/media.ts';
import { type CliRun, runCli } from '../tests/support/run-cli.ts';
import { type StartedApi, startApi } from '../tests/support/start-api.ts';
import { waitFor } from '../tests/support/wait-for.ts';

// Each test starts processes, which is slow on a machine that is busy with other tests.
jest.setTimeout(60_000);

let api: StartedApi;
let folder: string;
let runs: CliRun[];

beforeEach(async () => {
  api = await startApi({ linkNetworks: [], gcsSources: [] });
  folder = await mkdtemp(join(tmpdir(), 'many-'));
  runs = [];
  await mkdir(join(folder, 'talks', 'more'), { recursive: true });
  for (const name of ['talks/a.mp3', 'talks/a.wav', 'talks/more/b.mp3']) {
    await writeFile(join(folder, name), `the sound of ${name}`);
  }
});
afterEach(async () => {
  for (const run of runs) run.process.kill('SIGKILL');
  await Promise.all(runs.map((run) => run.ended));
  await api.stop();
  await rm(folder, { recursive: true, force: true });
});

function transcribe(...args: string[]): CliRun {
  const run = runCli(['transcribe', '--server', api.url, ...args], {
    cwd: folder,
    env: { XDG_STATE_HOME: join(folder, 'state') },
  });
  runs.push(run);
  return run;
}

async function jobs(): Promise<JobRecord[]> {
  const { records } = await api.records.list({ prefix: 'jobs/', limit: 100 });
  return records.map(({ value }) => JobRecord.parse(value));
}

const nameOf = ({ source }: JobRecord): string => source.filename ?? '';
const open = async () => (await jobs()).filter(({ status }) => status === 'queued');

/** Plays the worker for every job that comes, until the command has ended. */
async function work(run: CliRun, change: (record: JobRecord) => void = () => {}): Promise<void> {
  let isOver = false;
  void run.ended.then(() => {
    isOver = true;
  });
  while (!isOver) {
    for (const job of await open()) await settle(job, change);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function settle(job: JobRecord, change: (record: JobRecord) => void = () => {}): Promise<void> {
  const text = `This is ${nameOf(job)}.`;
  const transcript = {
    language: 'en',
    duration: 2,
    text,
    words_from: null,
    segments: [{ id: 0, start: 0, end: 1, text }],
    speakers: [],
  };
  await api.blobs.write(transcriptKey(job, 1), JSON.stringify(transcript), {
    contentType: 'application/json',
  });
  await api.change(job, (record) => {
    record.status = 'completed';
    record.duration_seconds = 730;
    record.objects.transcript = transcriptKey(job, 1);
    change(record);
  });
}

async function written(): Promise<string[]> {
  return (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.srt')).sort();
}

describe('several recordings', () => {
  test('are written where they were in their folder, and listed at the end', async () => {
    const run = transcribe('talks', '--out', 'out', '--format', 'srt,txt');
    await work(run);
    const { code, stdout, stderr } = await run.ended;
    expect(code).toBe(0);
    expect(stdout).toBe('');
    expect(await written()).toEqual(['out/a.mp3.srt', 'out/a.wav.srt', 'out/more/b.srt']);
    expect(await readFile(join(folder, 'out/a.wav.txt'), 'utf8')).toBe('This is a.wav.\n');
    expect(stderr).toContain('talks/more/b.mp3: Wrote out/more/b.srt and out/more/b.txt\n');
    expect(stderr).toMatch(
      /RECORDING +LENGTH +TOOK +RESULT\ntalks\/a\.mp3 +12:10 +0:0\d +done\ntalks\/a\.wav .*\n.*b\.mp3 .*\n3 done\.\n$/,
    );
  });

  test('are left out when they are done already, unless they have changed or it is asked for', async () => {
    const first = transcribe('talks', '--format', 'srt');
    await work(first);
    expect((await first.ended).code).toBe(0);
    const later = new Date(Date.now() + 5_000);
    await utimes(join(folder, 'talks/a.wav'), later, later);

    const second = transcribe('talks', '--format', 'srt');
    await work(second);
    const { code, stderr } = await second.ended;
    expect(code).toBe(0);
    expect(stderr).toMatch(/talks\/a\.mp3 +- +- +skipped: it is done already\n/);
    expect(stderr).toContain('1 done, 2 skipped.\n');
    expect(await jobs()).toHaveLength(4);

    const third = transcribe('talks', '--format', 'srt', '--overwrite');
    await work(third);
    expect((await third.ended).stderr).toContain('3 done.\n');
    expect(await jobs()).toHaveLength(7);
  });

  test('do not stop when one fails, and end with 1', async () => {
    const run = transcribe('talks/a.mp3', 'talks/a.wav', 'talks/more/b.mp3', '--jobs', '1');
    await work(run, (record) => {
      if (nameOf(record) !== 'a.wav') return;
      record.status = 'failed';
      record.problem = toProblem(new ServiceError('media-unreadable', 'Send another file.\u001b[2J'));
    });
    const { code, stderr } = await run.ended;
    expect(code).toBe(1);
    expect(stderr).toContain(
      'talks/a.wav: error: The media file cannot be decoded. Send another file.\ufffd[2J\n',
    );
    expect(stderr).toMatch(/talks\/a\.wav +- +0:0\d +failed: The media file cannot be decoded\n/);
    expect(stderr).toMatch(/2 done, 1 failed\.\nerror: 1 of 3 recordings failed\.\n$/);
    expect(await written()).toEqual(['a.mp3.srt', 'b.srt']);
  });

  test('run so many at once as was asked for', async () => {
    const run = transcribe('talks', '--jobs', '2');
    await waitFor('two jobs', async () => (await open()).length === 2);
    const [one] = await open();
    if (one !== undefined) await settle(one);
    await waitFor('the third', async () => (await jobs()).length === 3);
    expect(await open()).toHaveLength(2);
    await work(run);
    expect((await run.ended).code).toBe(0);
  });

  test('are canceled by Ctrl-C, which tells how many are left', async () => {
    const run = transcribe('talks', '--jobs', '2');
    await waitFor('two to be waited for', () => run.stderr().match(/Transcription tr_/g)?.length === 2);
    run.process.kill('SIGINT');
    const { code, stderr } = await run.ended;
    expect(code).toBe(130);
    expect(stderr).toMatch(
      /3 left\.\n3 of 3 are left: the same command goes on with them\.\nInterrupted by SIGINT\.\n$/,
    );
    expect((await jobs()).map(({ status }) => status)).toEqual(['canceled', 'canceled']);
  });

  test('stop when the service refuses what was asked for, which ends with 2', async () => {
    const { code, stderr } = await transcribe('talks', '--language', 'klingon', '--jobs', '1').ended;
    expect(code).toBe(2);
    expect(stderr).toContain('3 of 3 are left');
    expect(stderr).toMatch(/error: An option is not valid\n {2}The option language is not valid.*\n$/);
  });

  test('print only what went wrong with --quiet', async () => {
    const run = transcribe('talks/a.mp3', 'talks/more', '--quiet');
    await work(run, (record) => {
      record.warnings = [{ code: 'no-speech', message: 'Nobody speaks.' }];
    });
    const { code, stdout, stderr } = await run.ended;
    expect([code, stdout]).toEqual([0, '']);
    expect(stderr.split('\n').sort()).toEqual([
      '',
      'talks/a.mp3: Warning: Nobody speaks.',
      'talks/more/b.mp3: Warning: Nobody speaks.',
    ]);
  });
});

describe('a link', () => {
  test('is fetched by the service, and its text printed', async () => {
    const link = 'https://media.example/shows/talk.mp3?token=secret';
    const run = transcribe(link, '--format', 'srt', '--channels', 'separate', '--audio-track', '1');
    await work(run);
    const { code, stdout, stderr } = await run.ended;
    expect(code).toBe(0);
    expect(stdout).toBe('This is talk.mp3.\n');
    expect(await written()).toEqual(['talk.srt']);
    expect(stderr).not.toContain('secret');
    const [job] = await jobs();
    expect(job?.source).toMatchObject({ type: 'url', address: link });
    expect(job?.options).toMatchObject({ channels: 'separate', audio_track: 1 });
  });

  test('is done when its transcript is there', async () => {
    const links = ['https://media.example/1/a.mp3', 'https://media.example/b.mp3'];
    const first = transcribe(...links, '--format', 'srt');
    await work(first);
    expect((await first.ended).code).toBe(0);
    const { code, stderr } = await transcribe(...links, '--format', 'srt').ended;
    expect(code).toBe(0);
    expect(stderr).toContain('2 skipped.\n');
  });

  test('to a private network fails, but not what is beside it', async () => {
    const run = transcribe('https://10.0.0.1/a.mp3', 'talks/a.wav', 'gs://bucket/b.mp3');
    await work(run);
    const { code, stderr } = await run.ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(/a\.mp3 +- +0:0\d +failed: The link is not allowed\n/);
    expect(stderr).toMatch(/b\.mp3 +- +0:0\d +failed: The object cannot be read\n/);
    expect(stderr).toContain('1 done, 2 failed.\n');
  });
});

describe('a large recording is uploaded in pieces, killed in the middle, and gone on with', () => {
  const content = Buffer.alloc(200 * 1024 * 1024, noise(1_000_003));

  async function uploadTwice(): Promise<void> {
    await writeFile(join(folder, 'long.wav'), content);
    const run = transcribe('long.wav', '--format', 'srt');
    await waitFor('a piece', () => /upload: \d+\/210 MB/.test(run.stderr()));
    run.process.kill('SIGKILL');
    await run.ended;
    expect(await jobs()).toEqual([]);

    const second = transcribe('long.wav', '--format', 'srt');
    await waitFor('the transcription', () => second.stderr().includes('Transcription tr_'));
    expect(second.stderr()).toMatch(/^The upload goes on at \d+\.\d MB\.\n/);
    const [job] = await jobs();
    expect(job?.source).toMatchObject({ type: 'upload', filename: 'long.wav', bytes: content.length });
    second.process.kill('SIGINT');
    expect((await second.ended).code).toBe(130);
  }

  test('by tus, where the store is a folder', async () => {
    await uploadTwice();
    expect((await uploaded(api.blobs)).equals(content)).toBe(true);
  });

  test('past the service, where the store is in the cloud', async () => {
    const cloud = await startFakeCloudStorage({ folder: join(folder, 'cloud'), buckets: ['bucket'] });
    try {
      await api.stop();
      const storage = new Storage({ apiEndpoint: cloud.url, projectId: 'project' });
      const blobs = new GcsBlobs(storage.bucket('bucket'));
      api = await startApi({ blobs, linkNetworks: [], gcsSources: [] });
      await uploadTwice();
      expect((await uploaded(blobs)).equals(content)).toBe(true);
      const puts = cloud.requests.filter(({ operation }) => operation === 'put-session');
      expect(puts.map(({ contentRange = '' }) => contentRange)).toEqual(
        expect.arrayContaining([expect.stringMatching(/^bytes 0-\d+\/209715200$/), 'bytes */209715200']),
      );
    } finally {
      await cloud.close();
    }
  });

  async function uploaded(blobs: Blobs): Promise<Buffer> {
    for await (const { key } of blobs.list('uploads/')) return await buffer(await blobs.read(key));
    throw new Error('there is no upload');
  }
});
