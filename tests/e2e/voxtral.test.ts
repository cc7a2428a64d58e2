import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Backend } from '../../core/backends.ts';
import type { Blobs } from '../../core/blobs/blobs.ts';
import { readInstallation } from '../../core/installation.ts';
import { createLog } from '../../core/log.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import type { Transcript } from '../../core/transcript.ts';
import { readGpuConfig } from '../../gpu-service/config.ts';
import type { TranscribedChunk } from '../../gpu-service/supervisor/protocol.ts';
import type { Sidecars } from '../../gpu-service/supervisor/sidecars.ts';
import { openTranscriber } from '../../gpu-service/transcriber.ts';
import { GPU_ORIGIN, OWNER, startCloud } from '../support/cloud.ts';
import type { AudioRequest, Heard } from '../support/fake-mistral/audio-request.ts';
import { FakeMistral } from '../support/fake-mistral/fake-mistral.ts';
import { hearNumbers, spokenNumbers } from '../support/fake-mistral/spoken-numbers.ts';
import { fakeSidecarCommand } from '../support/fake-sidecar.ts';
import { ffmpeg } from '../support/media.ts';
import { runCli } from '../support/run-cli.ts';
import { startProcess } from '../support/service.ts';
import { detectSpeechIn, transcribeIn } from '../support/sidecar-commands.ts';
import { submit, waitUntilSettled } from '../support/submit.ts';
import { makeVoxtralWorker } from '../support/voxtral-worker.ts';

const installation = readInstallation();
const API_KEY = 'test-key';
const GPU: Backend = { name: 'gpu', kind: 'cloud-run-service', tier: 'premium', url: GPU_ORIGIN };
const VOXTRAL: Backend = { name: 'voxtral', kind: 'voxtral', tier: 'standard' };

let folder: string;
let api: FakeMistral;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'voxtral-e2e-'));
});
afterEach(async () => {
  await api.close();
  await rm(folder, { recursive: true });
});

async function startApi(hear: (request: AudioRequest) => Promise<Heard>): Promise<string> {
  api = new FakeMistral({ apiKey: API_KEY, hear, ffmpegPath: installation.ffmpeg });
  return api.listen();
}

const numbersUpTo = (count: number) => Array.from({ length: count }, (_, n) => `n${n}`).join(' ');

/** Transcribes one piece by itself, as the worker of the tier premium does a whole recording. */
async function hearWith(sidecars: Sidecars, request: AudioRequest): Promise<Heard> {
  const samples = await request.samples();
  const path = join(folder, `${api.requests}-${samples.length}.pcm`);
  await writeFile(path, Buffer.from(samples.buffer));
  const audio = { path, samples: samples.length };
  const { chunks } = await sidecars.run(detectSpeechIn(audio));
  const found: TranscribedChunk[] = [];
  await sidecars.run(transcribeIn(audio, { model: installation.packaged_model.name, chunks }), {
    onBatch: (batch) => void found.push(...batch),
  });
  return {
    text: found.map(({ text }) => text.trim()).join(' '),
    language: 'en',
    segments: found
      .flatMap(({ segments }) => segments.flatMap(({ words }) => words ?? []))
      .map(({ word, start, end }) => ({ text: word, start, end })),
  };
}

test('with the real engine behind the API, the words of a recording are those of its pieces, each once and in order', async () => {
  const gpu = readGpuConfig({ WHISPER_MODEL: installation.packaged_model.name }, installation);
  const log = createLog('test', { level: 'silent' });
  const { sidecars } = openTranscriber(gpu, installation, { log, onUnavailable: () => {} });
  const worker = await makeVoxtralWorker();
  try {
    // The engine does one after the other.
    let turn: Promise<unknown> = sidecars.whenReady();
    const heardOf = new Map<string, Heard>();
    const url = await startApi((request) => {
      const heard = turn.then(() => hearWith(sidecars, request));
      turn = heard.catch(() => {});
      return heard.then(async (one) => {
        heardOf.set(await keyOf(worker.store.blobs, request), one);
        return one;
      });
    });
    const tools = worker.tools(url, { pieceSeconds: { withSpeakers: 20, without: 20 } });
    const sample = sampleRecording(installation.python);
    const path = join(folder, 'long.wav');
    await ffmpeg(installation.ffmpeg, ['-stream_loop', '1', '-i', sample, '-t', '45', path]);
    const job = await worker.submit({}, await readFile(path));
    expect(await worker.attempt(job, tools)).toEqual({ kind: 'done' });

    expect([...heardOf.keys()].toSorted()).toEqual(
      [0, 1, 2].map((n) => expect.stringContaining(`audio-0-${n}.flac`)),
    );
    const alone = [...heardOf].toSorted(([one], [other]) => (one < other ? -1 : 1)).map(([, heard]) => heard);
    const said = withoutSpaces(alone.map(({ text }) => text).join(''));
    const { segments, language, duration, text } = await worker.transcript(job);
    expect([language, duration]).toEqual(['en', 45]);
    expect(said.length).toBeGreaterThan(300);
    expect(withoutSpaces(text)).toBe(said);
    expect(withoutSpaces(segments.map((segment) => segment.text).join(''))).toBe(said);
    const words = segments.flatMap((segment) => segment.words ?? []);
    expect(words.map(({ word }) => word).join('')).toBe(said);
    expect(words.map(({ word }) => word)).toEqual(text.split(' '));
    let time = 0;
    for (const { start, end } of words) {
      expect(start).toBeGreaterThanOrEqual(time);
      expect(end).toBeGreaterThanOrEqual(start);
      time = start;
    }
    console.info(
      `${words.length} words in ${segments.length} segments from ${alone.length} pieces: ${text.slice(0, 200)} …`,
    );
  } finally {
    await sidecars.stop(5_000);
    await worker.remove();
  }
}, 120_000);

const withoutSpaces = (text: string): string => text.replace(/\s+/g, '');

/** Which of the pieces in the store it is about. */
async function keyOf(blobs: Blobs, { flac }: AudioRequest): Promise<string> {
  for await (const { key, sizeBytes } of blobs.list('work/')) {
    if (sizeBytes === flac.length && (await buffer(await blobs.read(key))).equals(flac)) return key;
  }
  throw new Error('there is no such piece');
}

test('one command is enough: the one-machine service has the tier when it has the key', async () => {
  const url = await startApi(hearNumbers);
  await writeFile(join(folder, 'numbers.wav'), spokenNumbers(6));
  const env = {
    MISTRAL_API_KEY: API_KEY,
    MISTRAL_API_ENDPOINT: url,
    SIDECAR_COMMAND: JSON.stringify(fakeSidecarCommand('good')),
  };
  const { code, stderr } = await runCli(['transcribe', 'numbers.wav', '--tier', 'standard'], {
    cwd: folder,
    env,
  }).ended;
  expect([code, stderr]).toEqual([0, expect.any(String)]);
  const transcript = JSON.parse(await readFile(join(folder, 'numbers.json'), 'utf8')) as Transcript;
  expect(transcript).toMatchObject({
    text: numbersUpTo(6),
    words_from: 'model',
    language: 'und',
    duration: 6,
  });
  expect(await readFile(join(folder, 'numbers.srt'), 'utf8')).toContain('n0 n1 n2');
  expect(api.paidSeconds).toBe(6);

  const { MISTRAL_API_KEY: _, ...withoutKey } = env;
  const refused = await runCli(['transcribe', 'numbers.wav', '--tier', 'standard'], {
    cwd: folder,
    env: withoutKey,
  }).ended;
  expect([refused.code, refused.stderr]).toEqual([
    2,
    expect.stringContaining('no backend of the tier standard'),
  ]);
}, 60_000);

test('in the cloud cpu-service does it, between the same store and queues; what the models lack is refused before', async () => {
  const url = await startApi(hearNumbers);
  const env = { 'cpu-service': { MISTRAL_API_KEY: API_KEY, MISTRAL_API_ENDPOINT: url } };
  const cloud = await startCloud({ backends: [GPU, VOXTRAL], gpuInstances: 0, env });
  try {
    const { client } = cloud;
    const path = join(folder, 'numbers.wav');
    await writeFile(path, spokenNumbers(6));
    const traps: [string, Record<string, string>][] = [
      ['language', { language: 'en' }],
      ['word_timestamps', { diarize: 'true' }],
      ['word_timestamps', { model: 'voxtral-mini-transcribe-3' }],
      ['hotwords', { hotwords: Array.from({ length: 101 }, (_, n) => `t${n}`).join(',') }],
      ['task', { task: 'translate' }],
      ['prompt', { prompt: 'A meeting' }],
    ];
    for (const [field, options] of traps) {
      await expect(submit(client, path, { tier: 'standard', ...options })).rejects.toMatchObject({
        problem: { status: 422, field },
      });
    }
    const { id } = await submit(client, path, { tier: 'standard' });
    expect(await waitUntilSettled(client, id, 60_000)).toMatchObject({
      status: 'completed',
      backend: 'voxtral',
      warnings: [],
    });
    expect(JSON.parse(await client.transcript(id, 'json'))).toMatchObject({ text: numbersUpTo(6) });
    const { usage, model } = await cloud.record({ owner: OWNER, id });
    expect(model).toBe('voxtral-mini-2602');
    expect(usage.find(({ backend }) => backend === 'voxtral')).toMatchObject({ api_audio_seconds: 6 });
    expect(api.requests).toBe(1);
    expect(JSON.stringify(cloud.log())).not.toContain(API_KEY);
  } finally {
    await cloud.stop();
  }
}, 120_000);

test('a cpu-service that has such a backend and no key does not start, and says so', async () => {
  await startApi(hearNumbers);
  const starting = startProcess(['cpu-service/main.ts'], {
    BACKENDS: JSON.stringify([VOXTRAL]),
    CLOUD_TASKS_QUEUES: 'projects/test/locations/here/queues/zeroscribe',
    CPU_SERVICE_URL: 'http://cpu.test',
    TASK_INVOKER_EMAIL: 'invoker@test',
    DATA_DIR: folder,
    MISTRAL_API_KEY: '',
  });
  await expect(starting).rejects.toThrow(
    'The backend voxtral is of the kind voxtral and needs MISTRAL_API_KEY.',
  );
});
