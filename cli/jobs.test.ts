import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { jobKey, transcriptKey } from '../core/objects.ts';
import { ServiceError, toProblem } from '../core/problem.ts';
import { runCli } from '../tests/support/run-cli.ts';
import { type StartedApi, startApi } from '../tests/support/start-api.ts';
import { submit } from '../tests/support/submit.ts';
import { Client } from './client.ts';

// Each test starts processes, which is slow on a machine that is busy with other tests.
jest.setTimeout(30_000);

let api: StartedApi;
let folder: string;

beforeEach(async () => {
  api = await startApi();
  folder = await mkdtemp(join(tmpdir(), 'cli-'));
});
afterEach(async () => {
  await api.stop();
  await rm(folder, { recursive: true, force: true });
});

const jobs = (...args: string[]) => runCli(['jobs', ...args, '--server', api.url], { cwd: folder }).ended;

async function create(filename: string): Promise<{ owner: string; id: string }> {
  const path = join(folder, filename);
  await writeFile(path, `the bytes of ${filename}`);
  const { id } = await submit(new Client(api.url), path);
  return { owner: 'local', id };
}

test('lists the newest first in columns, and says when there are more', async () => {
  const older = await create('older.mp3');
  const newer = await create('newer.mp3');
  await api.change(newer, (record) => {
    record.status = 'processing';
    record.source.filename = 'newer \u001b[31m.mp3';
    record.stage = 'detect-speech';
    record.duration_seconds = 3_723;
    record.language = { code: 'de', probability: 0.9 };
  });
  const { code, stdout, stderr } = await jobs();
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const lines = stdout.split('\n');
  expect(lines[0]).toBe(
    'ID                      STATUS             CREATED           LENGTH   LANGUAGE  FILE',
  );
  expect(lines[1]).toMatch(
    new RegExp(
      `^${newer.id}  detect speech \\d+ %  +\\S+ \\S+  1:02:03  de        newer \ufffd\\[31m\\.mp3$`,
    ),
  );
  expect(lines[2]).toMatch(new RegExp(`^${older.id}  queued .* -        -         older\\.mp3$`));

  const page = await jobs('list', '--limit', '1');
  expect(page.stdout).not.toContain(older.id);
  expect(page.stderr).toBe(
    `There are more: zeroscribe jobs --limit 1 --server ${api.url} --after ${newer.id}\n`,
  );
  const rest = await jobs('--after', newer.id, '--json');
  expect(JSON.parse(rest.stdout)).toMatchObject({ data: [{ id: older.id }], has_more: false });
  expect(await jobs('--status', 'failed')).toEqual({ code: 0, stdout: '', stderr: 'No transcriptions.\n' });
});

test('names the next page with the filter of this one', async () => {
  await create('older.mp3');
  const { id } = await create('newer.mp3');
  const { stderr } = await jobs('--status', 'queued', '--limit', '1');
  expect(stderr).toContain(`zeroscribe jobs --status queued --limit 1 --server ${api.url} --after ${id}\n`);
});

test('explains the options that it has without a verb', async () => {
  const { code, stdout } = await jobs('--help');
  expect(code).toBe(0);
  for (const option of ['--status <status>', '--limit <n>', '--after <id>']) expect(stdout).toContain(option);
});

test('names the commands there are when it is given another', async () => {
  const { code, stderr } = await jobs('bogus');
  expect(stderr).toMatch(
    /^error: unknown command 'bogus'\. Commands are list, show, transcript, cancel, retry, /,
  );
  expect(code).toBe(2);
});

test('says what is wrong with a port that HTTP clients refuse', async () => {
  const { code, stderr } = await runCli(['jobs', '--server', 'http://127.0.0.1:1'], { cwd: folder }).ended;
  expect(stderr).toBe(
    'error: Port 1 of http://127.0.0.1:1 is kept for another protocol and never used for HTTP. Check --server.\n',
  );
  expect(code).toBe(1);
});

test('shows one, with its problem', async () => {
  const job = await create('talk.mp3');
  await api.change(job, (record) => {
    record.status = 'failed';
    record.problem = toProblem(new ServiceError('media-empty', 'Send a file with something in it.'));
  });
  const { code, stdout } = await jobs('show', job.id);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^status +failed$/m);
  expect(stdout).toMatch(/^file +talk\.mp3$/m);
  expect(stdout).toMatch(/^problem +The media file is empty\. Send a file with something in it\.$/m);
  expect(JSON.parse((await jobs('show', job.id, '--json')).stdout)).toMatchObject({ id: job.id });
});

test('prints a transcript, once there is one', async () => {
  const job = await create('talk.mp3');
  const early = await jobs('transcript', job.id);
  expect(early.stderr).toContain('error: The transcription is not finished\n');
  expect(early.code).toBe(1);

  const transcript = {
    language: 'en',
    duration: 1,
    text: 'Hello.',
    words_from: null,
    segments: [{ id: 0, start: 0, end: 1, text: 'Hello.' }],
    speakers: [],
  };
  await api.blobs.write(transcriptKey(job, 1), JSON.stringify(transcript), {
    contentType: 'application/json',
  });
  await api.change(job, (record) => {
    record.status = 'completed';
    record.objects.transcript = transcriptKey(job, 1);
  });
  expect(await jobs('transcript', job.id)).toEqual({ code: 0, stdout: 'Hello.\n', stderr: '' });
  expect((await jobs('transcript', job.id, '--format', 'srt')).stdout).toContain(
    '00:00:00,000 --> 00:00:01,000',
  );
});

test('cancels, retries and deletes', async () => {
  const job = await create('talk.mp3');
  expect(await jobs('cancel', job.id)).toMatchObject({ code: 0, stdout: `${job.id} is canceled\n` });
  expect(await jobs('retry', job.id)).toMatchObject({ code: 0, stdout: `${job.id} is queued\n` });
  expect(await jobs('cancel', job.id)).toMatchObject({ code: 0, stdout: `${job.id} is canceled\n` });
  expect(await jobs('delete', job.id)).toMatchObject({ code: 0, stdout: `${job.id} is deleted\n` });
  expect(await api.records.read(jobKey(job))).toBeUndefined();
  const gone = await jobs('show', job.id);
  expect(gone.stderr).toContain('error: There is nothing here\n');
  expect(gone.code).toBe(1);
});

test.each([
  [['show']],
  [['show', 'a', 'b']],
  [['explode', 'a']],
  [['list', 'a']],
  [['--status', 'lost']],
  [['--limit', '0']],
  [['transcript', 'a', '--format', 'docx']],
])('ends with 2 after wrong usage: %j', async (args) => {
  const { code, stdout, stderr } = await jobs(...args);
  expect(stderr).toMatch(/^error: /);
  expect(stdout).toBe('');
  expect(code).toBe(2);
});
