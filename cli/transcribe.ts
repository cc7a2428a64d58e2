import { relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { FORMAT_NAMES, type FormatName } from '../core/formats/format-options.ts';
import { isSettled } from '../core/job.ts';
import { parseOptions } from '../core/options.ts';
import { Client, ServiceUnreachable, type Transcription } from './client.ts';
import { type JobService, startEmbeddedService } from './embedded-service.ts';
import { interruption } from './interruption.ts';
import { JobFailed } from './job-failed.ts';
import { printable } from './printable.ts';
import { clock } from './progress.ts';
import { createProgressDisplay, type ProgressDisplay } from './progress-display.ts';
import { openRecording, openSampleRecording, type Recording, SAMPLE_NOTE } from './recording.ts';
import { addServerOptions, type ServerOptions } from './server-options.ts';
import { print } from './stdout.ts';
import { planTranscriptFiles, type TranscriptFile, writeAtomically } from './transcript-files.ts';
import { wholeNumber } from './whole-number.ts';

interface TranscribeOptions extends ServerOptions {
  format: FormatName[];
  out: string;
  language?: string;
  task?: string;
  model?: string;
  tier?: string;
  diarize?: true;
  numSpeakers?: number;
  minSpeakers?: number;
  maxSpeakers?: number;
  prompt?: string;
  hotwords?: string;
  wordTimestamps: boolean;
  quiet?: true;
  log?: string;
}

export function addTranscribe(program: Command): void {
  const speakers = (flag: string, description: string) =>
    new Option(flag, description).argParser(wholeNumber(1, 50)).implies({ diarize: true });
  const command = program
    .command('transcribe')
    .summary('transcribe a recording')
    .description(
      'Transcribe a recording: any audio or video file. The text is printed, and written to files.\n' +
        'Without FILE, a 30 s sample recording is transcribed, to see that everything works.',
    )
    .argument('[FILE]', 'the recording (default: a sample)')
    .optionsGroup('What comes out:')
    .addOption(
      new Option('-f, --format <list>', `formats to write, of ${FORMAT_NAMES.join(', ')}`)
        .argParser(readFormats)
        .default(['srt', 'json'], 'srt,json'),
    )
    .option('-o, --out <folder>', 'where to write <name of the recording>.<format>', '.')
    .option('--no-word-timestamps', 'no times for single words, only for segments')
    .optionsGroup('What is spoken:')
    .option('-l, --language <code>', 'language spoken, such as en or de (default: detect it)')
    .addOption(
      new Option('--task <task>', 'translate: write it in English').choices(['transcribe', 'translate']),
    )
    .option('--prompt <text>', 'text in the style and with the spelling to expect')
    .option('--hotwords <words>', 'names and terms to listen for')
    .optionsGroup('Who speaks:')
    .option('--diarize', 'tell the speakers apart')
    .addOption(speakers('--num-speakers <n>', 'how many there are, if known'))
    .addOption(speakers('--min-speakers <n>', 'at least so many'))
    .addOption(speakers('--max-speakers <n>', 'at most so many'))
    .optionsGroup('How and where:')
    .option('-m, --model <name>', 'Whisper model, such as tiny.en, small or large-v3-turbo')
    .addOption(new Option('--tier <tier>', 'what does it').choices(['premium', 'standard', 'auto']))
    .option('-q, --quiet', 'print only the text, warnings and errors')
    .option('--log <file>', 'append the log of the service inside this command to a file');
  addServerOptions(command, 'let this service do it (default: this command itself)')
    .addHelpText(
      'after',
      `
Examples:
  zeroscribe transcribe
  zeroscribe transcribe interview.mp3 --language en
  zeroscribe transcribe board.mp4 --diarize --num-speakers 4 --format srt,vtt,txt --out transcripts
  zeroscribe transcribe talk.wav --server https://transcribe.example.com

Exit codes: 0 done; 1 the transcription failed; 2 wrong usage, or an option that the service refuses;
130 interrupted with Ctrl-C (the job is canceled).
Temporary data goes to the folder named by TMPDIR.`,
    )
    .action(transcribe);
}

async function transcribe(file: string | undefined, options: TranscribeOptions): Promise<void> {
  // A service elsewhere may know more than we do; our own does not, and takes seconds to start.
  if (options.server === undefined) parseOptions(requestOptions(options));
  const recording = file === undefined ? await openSampleRecording() : await openRecording(file);
  const files = await planTranscriptFiles(recording, options.out, options.format);
  const interrupted = interruption();
  const display = createProgressDisplay(process.stderr, options.quiet === true);
  let service: JobService | undefined;
  try {
    if (file === undefined) display.note(SAMPLE_NOTE);
    service = await provideService(options);
    const signal = AbortSignal.any([interrupted, ...(service.failure ? [service.failure] : [])]);
    const client = new Client(service.url, service.apiKey);
    const done = await runJob(client, recording, options, { service, display, signal });
    const text = await fetchTranscript(client, done, files, signal);
    display.stop();
    for (const { message } of done.warnings) say(`Warning: ${printable(message)}`);
    if (!options.quiet) say(`Wrote ${files.map(({ path }) => shortPath(path)).join(' and ')}${pace(done)}`);
    await print(text);
  } finally {
    display.stop();
    await service?.stop();
  }
}

async function provideService(options: TranscribeOptions): Promise<JobService> {
  const { server, apiKey } = options;
  if (server === undefined) return await startEmbeddedService({ logFile: options.log });
  return { url: server, apiKey, stop: async () => {} };
}

interface JobSurroundings {
  service: JobService;
  display: ProgressDisplay;
  signal: AbortSignal;
}

/** Uploads, then follows the job to its end. A job that nobody waits for any more is canceled. */
async function runJob(
  client: Client,
  recording: Recording,
  options: TranscribeOptions,
  { service, display, signal }: JobSurroundings,
): Promise<Transcription> {
  const created = await client.create(
    { ...recording, options: requestOptions(options) },
    { signal, onUpload: (sentBytes) => display.uploaded(sentBytes, recording.sizeBytes) },
  );
  if (options.server !== undefined)
    display.note(`Transcription ${printable(created.id)} on ${client.server}`);
  try {
    const settled = await follow(client, created, { service, display, signal }, options);
    if (settled.status === 'completed') return settled;
    throw new JobFailed(
      settled.problem ?? {
        type: 'about:blank',
        title: 'The transcription was canceled',
        status: 409,
        detail: `Somebody else canceled it. To run it again: zeroscribe jobs retry ${settled.id}`,
      },
    );
  } catch (error) {
    if (signal.aborted)
      await client.cancel(created.id, AbortSignal.timeout(CANCEL_TIMEOUT_MS)).catch(() => {});
    throw error;
  }
}

const CANCEL_TIMEOUT_MS = 5_000;
const POLL_INTERVAL_MS = 500;
/** A service that is being restarted goes on with the job. */
const UNREACHABLE_LIMIT_MS = 60_000;

async function follow(
  client: Client,
  created: Transcription,
  { service, display, signal }: JobSurroundings,
  options: TranscribeOptions,
): Promise<Transcription> {
  let current = created;
  let isModelTold = false;
  let unreachableSinceMs: number | undefined;
  for (;;) {
    const model = current.model ?? current.options.model;
    if (!isModelTold && model) {
      isModelTold = true;
      const because = options.model ? undefined : service.modelReason;
      const reason = options.model ? 'as asked for' : 'the default of the service';
      display.note(printable(`Model: ${because ?? `${model}, ${reason}`}`));
    }
    display.look(current);
    if (isSettled(current.status)) return current;
    await delay(POLL_INTERVAL_MS, undefined, { signal }).catch(() => {
      throw signal.reason;
    });
    try {
      current = await client.get(current.id, signal);
      unreachableSinceMs = undefined;
    } catch (error) {
      if (!(error instanceof ServiceUnreachable)) throw error;
      if (unreachableSinceMs === undefined)
        display.note('The connection is lost; trying again for a minute.');
      unreachableSinceMs ??= performance.now();
      if (performance.now() - unreachableSinceMs > UNREACHABLE_LIMIT_MS) throw error;
    }
  }
}

/** Writes the files. @returns the text to print */
async function fetchTranscript(
  client: Client,
  { id }: Transcription,
  files: readonly TranscriptFile[],
  signal: AbortSignal,
): Promise<string> {
  for (const { format, path } of files) {
    const text = await client.transcript(id, format, signal);
    await writeAtomically(path, text).catch((cause: NodeJS.ErrnoException) => {
      throw new Error(`The transcript could not be written to ${path} (${cause.code}).`, { cause });
    });
  }
  return await client.transcript(id, 'txt', signal);
}

/** Only what was asked for: the service knows its own defaults. */
function requestOptions(options: TranscribeOptions): Record<string, string> {
  const asked = {
    tier: options.tier,
    model: options.model,
    language: options.language,
    task: options.task,
    word_timestamps: options.wordTimestamps ? undefined : false,
    diarize: options.diarize,
    num_speakers: options.numSpeakers,
    min_speakers: options.minSpeakers,
    max_speakers: options.maxSpeakers,
    prompt: options.prompt,
    hotwords: options.hotwords,
  };
  return Object.fromEntries(
    Object.entries(asked).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]])),
  );
}

function readFormats(list: string): FormatName[] {
  const names = list.split(',').map((name) => name.trim().toLowerCase());
  for (const name of names) {
    if (!isFormat(name))
      throw new InvalidArgumentError(`Formats are ${FORMAT_NAMES.join(', ')}, separated by commas.`);
  }
  return [...new Set(names)] as FormatName[];
}

function isFormat(name: string): name is FormatName {
  return (FORMAT_NAMES as readonly string[]).includes(name);
}

function pace({ duration_seconds, metrics }: Transcription): string {
  if (duration_seconds === null || metrics.processing_seconds === null) return '';
  return ` (${clock(duration_seconds)} of audio in ${clock(metrics.processing_seconds)})`;
}

function shortPath(path: string): string {
  const fromHere = relative('.', path);
  return fromHere.startsWith('..') ? path : fromHere;
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
