import { existsSync } from 'node:fs';
import { link, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { parseApiKeys } from '../api/http/api-keys.ts';
import { JobRecord } from '../core/job.ts';
import { type JobRef, transcriptKey } from '../core/objects.ts';
import { ServiceError, toProblem } from '../core/problem.ts';
import type { Transcript } from '../core/transcript.ts';
import { sine, wav } from '../tests/support/media.ts';
import { type CliRun, runCli } from '../tests/support/run-cli.ts';
import { type StartedApi, startApi } from '../tests/support/start-api.ts';
import { waitFor } from '../tests/support/wait-for.ts';

const TRANSCRIPT: Transcript = {
  language: 'en',
  duration: 2,
  text: 'Hello there. Who is it?',
  words_from: null,
  segments: [
    { id: 0, start: 0, end: 1, text: ' Hello there.', speaker: 'SPEAKER_00' },
    { id: 1, start: 1, end: 2, text: ' Who is it?', speaker: 'SPEAKER_01' },
  ],
  speakers: ['SPEAKER_00', 'SPEAKER_01'],
};

// Each test starts processes, which is slow on a machine that is busy with other tests.
jest.setTimeout(30_000);

let api: StartedApi;
let folder: string;
let runs: CliRun[];

beforeEach(async () => {
  api = await startApi();
  folder = await mkdtemp(join(tmpdir(), 'cli-'));
  runs = [];
  await writeFile(join(folder, 'talk.wav'), wav({ seconds: 2 }, sine));
});
afterEach(async () => {
  for (const run of runs) run.process.kill('SIGKILL');
  await Promise.all(runs.map((run) => run.ended));
  await api.stop();
  await rm(folder, { recursive: true, force: true });
});

function start(args: readonly string[], env: Record<string, string> = {}): CliRun {
  const run = runCli(args, { cwd: folder, env });
  runs.push(run);
  return run;
}
const transcribe = (...args: string[]) => start(['transcribe', '--server', api.url, ...args]);

async function records(): Promise<JobRecord[]> {
  const { records: stored } = await api.records.list({ prefix: 'jobs/', limit: 10 });
  return stored.map(({ value }) => JobRecord.parse(value));
}
const submitted = () => waitFor('a job', async () => (await records())[0]);

async function complete(job: JobRef, change: (record: JobRecord) => void = () => {}): Promise<void> {
  await api.blobs.write(transcriptKey(job, 2), JSON.stringify(TRANSCRIPT), {
    contentType: 'application/json',
  });
  await api.change(job, (record) => {
    record.status = 'completed';
    record.stage = null;
    record.stages = [
      { name: 'decode', status: 'done', seconds: 0.5, fraction: 1 },
      { name: 'transcribe', status: 'done', seconds: 12.25, fraction: 1 },
    ];
    record.model = 'tiny.en';
    record.objects.transcript = transcriptKey(job, 2);
    change(record);
  });
}

describe('a transcription by a service elsewhere', () => {
  test('prints the text, writes srt and json, and tells the stages on stderr', async () => {
    const run = transcribe('talk.wav');
    const job = await submitted();
    await api.change(job, (record) => {
      record.status = 'processing';
      record.stage = 'transcribe';
      record.stages = [{ name: 'decode', status: 'done', seconds: 0.5, fraction: 1 }];
    });
    await waitFor('the stage', () => run.stderr().includes('transcribe ...'));
    await complete(job);
    const { code, stdout, stderr } = await run.ended;

    expect(stdout).toBe('[SPEAKER_00]: Hello there.\n[SPEAKER_01]: Who is it?\n');
    expect(code).toBe(0);
    expect((await readdir(folder)).sort()).toEqual(['talk.json', 'talk.srt', 'talk.wav']);
    expect(JSON.parse(await readFile(join(folder, 'talk.json'), 'utf8'))).toEqual(TRANSCRIPT);
    expect(await readFile(join(folder, 'talk.srt'), 'utf8')).toContain('00:00:01,000 --> 00:00:02,000');
    expect(stderr.split('\n')).toEqual([
      'upload: 64.0 kB',
      `Transcription ${job.id} on ${api.url}`,
      'decode: done in 0.5 s',
      'transcribe ...',
      'Model: tiny.en, the default of the service',
      'transcribe: done in 12.3 s',
      'Wrote talk.srt and talk.json',
      '',
    ]);
  });

  test('sends the recording and what was asked for, and nothing that was not', async () => {
    const options = [
      '--language',
      'en',
      '--num-speakers',
      '2',
      '--prompt',
      'Grüße, "A" & B',
      '--no-word-timestamps',
      '--vad-method',
      'pyannote',
    ];
    const run = transcribe(
      'talk.wav',
      ...options,
      '--model',
      'tiny.en',
      '--format',
      'vtt,TXT,vtt',
      '--out',
      'a/b',
    );
    const job = await submitted();
    expect(job.source).toMatchObject({ filename: 'talk.wav', bytes: 64_044, content_type: 'audio/wav' });
    expect(job.options).toMatchObject({
      language: 'en',
      diarize: true,
      num_speakers: 2,
      prompt: 'Grüße, "A" & B',
      word_timestamps: false,
      vad_method: 'pyannote',
      model: 'tiny.en',
      task: 'transcribe',
    });
    expect(job.options.hotwords).toBeUndefined();
    await complete(job);
    const { code, stderr } = await run.ended;
    expect(stderr).toContain('Model: tiny.en, as asked for\n');
    expect(stderr).toContain('Wrote a/b/talk.vtt and a/b/talk.txt\n');
    expect(code).toBe(0);
    expect((await readdir(join(folder, 'a', 'b'))).sort()).toEqual(['talk.txt', 'talk.vtt']);
  });

  test('with --quiet prints nothing but text and warnings', async () => {
    const run = transcribe('talk.wav', '--quiet');
    await complete(await submitted(), (record) => {
      record.warnings = [{ code: 'diarization-failed', message: 'The speakers are missing.\u001b[2J' }];
    });
    expect(await run.ended).toEqual({
      code: 0,
      stdout: '[SPEAKER_00]: Hello there.\n[SPEAKER_01]: Who is it?\n',
      stderr: 'Warning: The speakers are missing.\ufffd[2J\n',
    });
  });

  test('replaces what an earlier run wrote', async () => {
    await writeFile(join(folder, 'talk.txt'), 'old');
    const run = transcribe('talk.wav', '--format', 'txt');
    await complete(await submitted());
    expect((await run.ended).code).toBe(0);
    expect(await readFile(join(folder, 'talk.txt'), 'utf8')).toMatch(/^\[SPEAKER_00\]: Hello/);
  });

  test('that fails ends with 1 and the problem, and writes nothing', async () => {
    const run = transcribe('talk.wav');
    const job = await submitted();
    await api.change(job, (record) => {
      record.status = 'failed';
      record.problem = toProblem(new ServiceError('media-without-audio', 'Send a recording with sound.'));
    });
    const { code, stdout, stderr } = await run.ended;
    expect(stderr).toMatch(/error: The media file has no audio\n {2}Send a recording with sound\.\n$/);
    expect(code).toBe(1);
    expect(stdout).toBe('');
    expect(await readdir(folder)).toEqual(['talk.wav']);
  });

  test('is canceled by Ctrl-C, which ends with 130', async () => {
    const run = transcribe('talk.wav');
    const job = await submitted();
    await waitFor('the command to wait', () => run.stderr().includes(job.id));
    run.process.kill('SIGINT');
    const { code, stderr } = await run.ended;
    expect(code).toBe(130);
    expect(stderr).toContain('Interrupted by SIGINT.\n');
    expect((await submitted()).status).toBe('canceled');
    expect(await readdir(folder)).toEqual(['talk.wav']);
  });

  test('goes on waiting while the service is started again', async () => {
    const run = transcribe('talk.wav');
    const job = await submitted();
    await waitFor('the command to wait', () => run.stderr().includes(job.id));
    const [record] = await records();
    const { port } = api;
    await api.stop();
    await waitFor('the loss to be noticed', () => run.stderr().includes('The connection is lost'));
    api = await startApi({}, { port });
    await api.records.create(`jobs/${job.owner}/${job.id}`, record, { label: 'queued' });
    await complete(job);
    expect((await run.ended).code).toBe(0);
  });

  test('needs a key where the service does', async () => {
    await api.stop();
    api = await startApi({ keys: parseApiKeys('ann:secret') });
    const refused = await transcribe('talk.wav').ended;
    expect(refused.stderr).toContain('error: No valid API key was given\n');
    expect(refused.stderr).toContain('Give the key with --api-key, or in the variable ZEROSCRIBE_API_KEY.');
    expect(refused.code).toBe(1);

    const run = start(['transcribe', 'talk.wav', '--server', api.url], { ZEROSCRIBE_API_KEY: 'secret' });
    const job = await submitted();
    expect(job.owner).toBe('ann');
    await complete(job);
    expect((await run.ended).code).toBe(0);
  });

  test('says so when nothing listens at the address', async () => {
    const { url } = api;
    await api.stop();
    const { code, stderr } = await start(['transcribe', 'talk.wav', '--server', url]).ended;
    api = await startApi();
    expect(stderr).toContain(`error: Nothing answers at ${url}. Start the service with "zeroscribe serve"`);
    expect(code).toBe(1);
  });
});

describe('wrong usage ends with 2 before anything is sent', () => {
  test.each([
    ['an unknown option', ['talk.wav', '--speed', '2'], "unknown option '--speed'"],
    ['a missing file', ['nope.wav'], 'There is no file nope.wav.'],
    ['a missing file beside another', ['talk.wav', 'nope.wav'], 'There is no file nope.wav.'],
    ['a folder without recordings', ['taken'], 'There are no recordings in taken.'],
    ['a pattern that names nothing', ['*.mp3'], 'There is no file *.mp3, and taken as a pattern it names no'],
    [
      'a link that is not https',
      ['http://example.com/a.mp3'],
      'Links begin with https:// or gs://, not with http',
    ],
    ['a link that is none', ['https://'], 'A link is not valid.'],
    ['a bucket without an object', ['gs://bucket/'], 'gs://bucket/ is no object.'],
    ['no jobs', ['talk.wav', '--jobs', '0'], 'a whole number from 1 to 64'],
    ['a recording without a name', [''], 'The name of the recording is empty.'],
    ['a device', ['/dev/null'], '/dev/null is not a regular file.'],
    ['an unknown format', ['talk.wav', '--format', 'srt,docx'], 'Formats are json, srt, vtt, txt, tsv'],
    ['an address without a scheme', ['talk.wav', '--server', 'localhost:8080'], 'It must be an address'],
    ['too many speakers', ['talk.wav', '--max-speakers', '51'], 'a whole number from 1 to 50'],
    ['an unknown task', ['talk.wav', '--task', 'sing'], 'Allowed choices are transcribe, translate'],
    ['an output that is a folder', ['talk.wav', '--out', 'taken'], 'talk.srt is a folder'],
    [
      'an output folder that is a file',
      ['talk.wav', '--out', 'talk.txt'],
      'talk.txt is a file, not a folder.',
    ],
    ['an output folder in a file', ['talk.wav', '--out', 'talk.txt/a'], 'talk.txt/a cannot be made'],
    ['an output that is the recording', ['talk.txt', '--format', 'txt'], 'is the recording itself'],
    ['an output that is a link to it', ['talk.wav', '--format', 'vtt'], 'is the recording itself'],
  ])('%s', async (_, args, message) => {
    await mkdir(join(folder, 'taken', 'talk.srt'), { recursive: true });
    await writeFile(join(folder, 'talk.txt'), 'a recording with a misleading name');
    await link(join(folder, 'talk.wav'), join(folder, 'talk.vtt'));
    const { code, stdout, stderr } = await transcribe(...args).ended;
    expect(stderr).toContain(message);
    expect(stdout).toBe('');
    expect(code).toBe(2);
    expect(await records()).toEqual([]);
  });

  test('an option that the service refuses', async () => {
    const { code, stderr } = await transcribe('talk.wav', '--language', 'klingon').ended;
    expect(stderr).toContain('error: An option is not valid\n  The option language is not valid');
    expect(code).toBe(2);
  });

  test('but asking for help is right usage', async () => {
    const { code, stdout } = await start(['transcribe', '--help']).ended;
    expect(stdout).toContain('Exit codes: 0 done;');
    expect(code).toBe(0);
  });
});

describe('a transcription by the command itself', () => {
  const embedded = (...args: string[]) => start(['transcribe', ...args], { TMPDIR: join(folder, 'tmp') });
  beforeEach(() => mkdir(join(folder, 'tmp')));

  test.each([
    [['--language', 'xx'], 'error: An option is not valid\n  The option language is not valid'],
    [
      ['--diarize', '--channels', 'separate'],
      'error: An option is not valid\n  With channels=separate each channel is a speaker',
    ],
  ])('is refused before it starts: %j', async (options, message) => {
    const { code, stderr } = await embedded('talk.wav', ...options, '--log', 'service.log').ended;
    expect(stderr).toContain(message);
    expect(code).toBe(2);
    expect(existsSync(join(folder, 'service.log'))).toBe(false);
  });

  test('that fails leaves no temporary data', async () => {
    await writeFile(join(folder, 'song.mp3'), 'This is text, whatever its name says.');
    const { code, stderr } = await embedded('song.mp3', '--log', 'service.log').ended;
    expect(stderr).toContain('error: The media file cannot be decoded\n');
    expect(code).toBe(1);
    expect(await readdir(join(folder, 'tmp'))).toEqual([]);
    expect(await readFile(join(folder, 'service.log'), 'utf8')).toContain('"listening"');
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)(
    'that %s interrupts leaves no temporary data',
    async (signal, exitCode) => {
      const run = embedded('talk.wav');
      await waitFor('the work to begin', () => {
        if (run.process.exitCode !== null) throw new Error(`it ended before: ${run.stderr()}`);
        return run.stderr().includes('decode');
      });
      expect(await readdir(join(folder, 'tmp'))).toHaveLength(1);
      run.process.kill(signal);
      const { code, stderr } = await run.ended;
      expect(stderr).toContain(`Interrupted by ${signal}.\n`);
      expect(code).toBe(exitCode);
      expect(await readdir(join(folder, 'tmp'))).toEqual([]);
      expect(existsSync(join(folder, 'talk.srt'))).toBe(false);
    },
    120_000,
  );
});
