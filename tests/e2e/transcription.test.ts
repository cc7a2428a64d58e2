import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, extname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Client, type Transcription } from '../../cli/client.ts';
import { readInstallation } from '../../core/installation.ts';
import { sampleRecording } from '../../core/sample-recording.ts';
import { Transcript } from '../../core/transcript.ts';
import { runPython } from '../support/python.ts';
import { otherRecordings } from '../support/recordings.ts';
import { type Service, startService } from '../support/service.ts';
import { stockWhisperX } from '../support/stock-whisperx.ts';
import { submit, waitUntilSettled } from '../support/submit.ts';

const installation = readInstallation();
const sample = sampleRecording(installation.python);
const others = await otherRecordings();
const files = [sample, ...others];

let folder: string;
let service: Service;
let client: Client;
/** Of the sample in English with nothing else asked for: what most of these tests look at. */
let settledSample: Transcription;
let sampleTranscript: Transcript;
const stockTexts = new Map<string, string>();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'zeroscribe-e2e-'));
  const { command, env } = stockWhisperX(installation, { files, outDir: folder, formats: 'json' });
  const [file = '', ...args] = command;
  await promisify(execFile)(file, args, { cwd: folder, env });
  for (const path of files) {
    const name = basename(path, extname(path));
    const { segments } = JSON.parse(await readFile(join(folder, `${name}.json`), 'utf8')) as {
      segments: { text: string }[];
    };
    stockTexts.set(path, spaced(segments.map(({ text }) => text).join(' ')));
  }
  service = await startService(join(folder, 'data'), { WHISPER_MODEL: installation.packaged_model.name });
  client = new Client(service.url);
  settledSample = await finish(sample);
  sampleTranscript = await transcriptOf(settledSample);
}, 300_000);

afterAll(async () => {
  expect(await service.stop()).toBe(0);
  await rm(folder, { recursive: true });
});

const spaced = (text: string): string => text.split(/\s+/).filter(Boolean).join(' ');

async function finish(path: string, options: Record<string, string> = {}): Promise<Transcription> {
  const { id } = await submit(client, path, { language: 'en', ...options });
  const settled = await waitUntilSettled(client, id);
  expect(settled).toMatchObject({ status: 'completed', problem: null });
  return settled;
}

const transcriptOf = async ({ id }: Transcription): Promise<Transcript> =>
  Transcript.parse(JSON.parse(await client.transcript(id, 'json')));

describe('with the real model', () => {
  test.each(files.map((path) => [basename(path), path] as const))(
    '%s gets the words that stock WhisperX gives it, on the chunks that it finds',
    async (_, path) => {
      const transcript = await transcriptOf(await finish(path, { vad_method: 'pyannote' }));
      expect(spaced(transcript.text)).toBe(stockTexts.get(path));
      expect(spaced(transcript.segments.map(({ text }) => text).join(' '))).toBe(stockTexts.get(path));
    },
    300_000,
  );

  test('the word error rate on the sample is that of stock WhisperX', async () => {
    const { text } = sampleTranscript;
    const rates = (await runPython('word_error_rate.py', {
      stm: sample.replace(/wav$/, 'stm'),
      texts: { zeroscribe: text, stock: stockTexts.get(sample) },
    })) as { zeroscribe: number; stock: number };
    console.info(
      `word error rate on the sample: zeroscribe ${percent(rates.zeroscribe)}, stock WhisperX ${percent(rates.stock)}`,
    );
    expect(rates.zeroscribe).toBeLessThanOrEqual(rates.stock);
  }, 300_000);

  test('every word has times that lie in its segment and never run backwards', () => {
    const { segments, words_from, duration } = sampleTranscript;
    expect(words_from).toBe('attention');
    let time = 0;
    for (const segment of segments) {
      expect(segment.start).toBeGreaterThanOrEqual(time);
      time = segment.start;
      for (const word of segment.words ?? []) {
        expect(word.start).toBeGreaterThanOrEqual(time);
        expect(word.end).toBeGreaterThanOrEqual(word.start);
        expect(word.end).toBeLessThanOrEqual(segment.end);
        time = word.start;
      }
    }
    expect(time).toBeLessThan(duration);
    // The reference has the first word at 6.68 s.
    expect(segments[0]?.words?.[0]?.start).toBeCloseTo(6.68, 0);
  });

  test('every format is rendered from the one transcript', async () => {
    const { id } = settledSample;
    expect(await client.transcript(id, 'srt')).toMatch(/^1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\nHello/);
    expect(await client.transcript(id, 'vtt')).toMatch(/^WEBVTT\n\n/);
    expect(await client.transcript(id, 'tsv')).toMatch(/^start\tend\ttext\n/);
    expect(await client.transcript(id, 'txt')).toContain('This is Diane in New Jersey.');
  }, 300_000);

  test('without word times there are none', async () => {
    const { segments, words_from } = await transcriptOf(await finish(sample, { word_timestamps: 'false' }));
    expect(words_from).toBeNull();
    expect(segments.every(({ words }) => words === undefined)).toBe(true);
  }, 300_000);

  test('the transcription tells what it took', () => {
    expect(settledSample.duration_seconds).toBe(30);
    expect(settledSample.metrics.processing_seconds).toBeGreaterThan(0);
    expect(settledSample.metrics.realtime_factor).toBeGreaterThan(0);
    expect(settledSample.progress.percent).toBe(100);
  });
});

const percent = (rate: number): string => `${(rate * 100).toFixed(1)} %`;
