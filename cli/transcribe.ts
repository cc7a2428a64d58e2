import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { FORMAT_NAMES, type FormatName } from '../core/formats/format-options.ts';
import { parseOptions } from '../core/options.ts';
import { Client } from './client.ts';
import { describeWritten } from './describe-written.ts';
import { type JobService, startEmbeddedService } from './embedded-service.ts';
import { findInputs, type Inputs, isSingle } from './inputs.ts';
import { interruption } from './interruption.ts';
import type { RequestOptions } from './multipart.ts';
import { printable } from './printable.ts';
import { createProgressDisplay, type ProgressDisplay } from './progress-display.ts';
import { openSampleRecording, SAMPLE_NOTE } from './recording.ts';
import { type JobSurroundings, runJob } from './run-job.ts';
import { addServerOptions, type ServerOptions } from './server-options.ts';
import { print } from './stdout.ts';
import { type Outcome, summary } from './summary.ts';
import { transcribeMany } from './transcribe-many.ts';
import { type Plan, planTranscriptFiles } from './transcript-files.ts';
import { UploadStates } from './upload-state.ts';
import { wholeNumber } from './whole-number.ts';

interface TranscribeOptions extends ServerOptions {
  format: FormatName[];
  out: string;
  overwrite?: true;
  jobs?: number;
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
  vadMethod?: string;
  channels?: string;
  audioTrack?: number;
  saveBeside?: FormatName[];
  wordTimestamps: boolean;
  quiet?: true;
  log?: string;
}

export function addTranscribe(program: Command): void {
  const speakers = (flag: string, description: string) =>
    new Option(flag, description).argParser(wholeNumber(1, 50)).implies({ diarize: true });
  const command = program
    .command('transcribe')
    .summary('transcribe recordings')
    .description(
      'Transcribe recordings: any audio or video files, https:// links and gs:// objects. Folders are searched for ' +
        'recordings, and patterns are expanded. The text of a single recording is printed; all are written to files.\n' +
        'Without INPUT, a 30 s sample recording is transcribed, to see that everything works.',
    )
    .argument('[INPUT...]', 'files, folders, patterns in quotes, links (default: a sample)')
    .optionsGroup('What comes out:')
    .addOption(
      new Option('-f, --format <list>', `formats to write, of ${FORMAT_NAMES.join(', ')}`)
        .argParser(readFormats)
        .default(['srt', 'json'], 'srt,json'),
    )
    .option('-o, --out <folder>', 'where to write <name of the recording>.<format>', '.')
    .option('--overwrite', 'of several recordings, transcribe also those that are done already')
    .addOption(
      new Option(
        '--save-beside <list>',
        'of gs:// objects: let the service write these formats beside them',
      ).argParser(readFormats),
    )
    .option('--no-word-timestamps', 'no times for single words, only for segments')
    .optionsGroup('What is spoken:')
    .option('-l, --language <code>', 'language spoken, such as en or de (default: detect it)')
    .addOption(
      new Option('--task <task>', 'translate: write it in English').choices(['transcribe', 'translate']),
    )
    .option('--prompt <text>', 'text in the style and with the spelling to expect')
    .option('--hotwords <words>', 'names and terms to listen for')
    .addOption(new Option('--vad-method <method>', 'what finds the speech').choices(['silero', 'pyannote']))
    .optionsGroup('Who speaks:')
    .option('--diarize', 'tell the speakers apart')
    .addOption(speakers('--num-speakers <n>', 'how many there are, if known'))
    .addOption(speakers('--min-speakers <n>', 'at least so many'))
    .addOption(speakers('--max-speakers <n>', 'at most so many'))
    .addOption(
      new Option('--channels <how>', 'separate: each channel is a speaker').choices(['mix', 'separate']),
    )
    .optionsGroup('How and where:')
    .option('-j, --jobs <n>', 'how many at once (default: 3 with --server, else 2)', wholeNumber(1, MAX_JOBS))
    .option('--audio-track <n>', 'which of several audio tracks, counted from 0', wholeNumber(0, 99))
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
  zeroscribe transcribe interviews 'calls/**/*.mp3' https://example.com/talk.mp3 --jobs 4 --out transcripts

Of several recordings, those are skipped whose transcripts are newer than they are. Below --out they have the places
that they had in their folder. An upload that broke off goes on where it stopped with the same command.

Exit codes: 0 done; 1 a transcription failed; 2 wrong usage, or an option that the service refuses;
130 interrupted with Ctrl-C (the running jobs are canceled).
Temporary data goes to the folder named by TMPDIR.`,
    )
    .action(transcribe);
}

const MAX_JOBS = 64;

async function transcribe(words: string[], options: TranscribeOptions): Promise<void> {
  // A service elsewhere may know more than we do; our own does not, and takes seconds to start.
  if (options.server === undefined) parseOptions(requestOptions(options));
  const found = await findAll(words);
  const plans = await planTranscriptFiles(found.inputs, options.out, options.format);
  const isMany = words.length > 1 || (words[0] !== undefined && !(await isSingle(words[0])));
  if (isMany) await runMany(plans, found.unreadable, options);
  else if (plans[0] !== undefined) await runSingle(plans[0], words.length === 0, options);
}

async function findAll(words: readonly string[]): Promise<Inputs> {
  if (words.length > 0) return await findInputs(words);
  const recording = await openSampleRecording();
  const { filename } = recording;
  return { inputs: [{ kind: 'file', name: filename, outputName: filename, recording }], unreadable: [] };
}

async function runSingle(plan: Plan, isSample: boolean, options: TranscribeOptions): Promise<void> {
  const display = createProgressDisplay(process.stderr, { isQuiet: options.quiet === true });
  const progress = display.begin(plan.input.name);
  if (isSample) display.note(SAMPLE_NOTE);
  await withService(options, display, async (surroundings) => {
    const done = await runJob(plan, { ...surroundings, progress });
    const text = await surroundings.client.transcript(done.id, 'txt', surroundings.signal);
    display.stop();
    for (const { message } of done.warnings) say(`Warning: ${printable(message)}`);
    if (!options.quiet) say(describeWritten(plan.files, done));
    await print(text);
  });
}

async function runMany(
  plans: readonly Plan[],
  unreadable: Inputs['unreadable'],
  options: TranscribeOptions,
): Promise<void> {
  const isSkipped = ({ isDone }: Plan) => isDone && options.overwrite !== true;
  const wanted = plans.filter((plan) => !isSkipped(plan));
  const outcomes: Outcome[] = [
    ...plans
      .filter(isSkipped)
      .map(({ input }): Outcome => ({ name: input.name, status: 'skipped', remark: 'it is done already' })),
    ...unreadable.map(({ name, reason }): Outcome => ({ name, status: 'failed', remark: reason })),
  ];
  let stoppedBy: unknown;
  if (wanted.length > 0) {
    const jobs = options.jobs ?? (options.server === undefined ? 2 : 3);
    const names = wanted.map(({ input }) => input.name);
    const display = createProgressDisplay(process.stderr, { isQuiet: options.quiet === true, names });
    await withService(options, display, async (surroundings) => {
      const { signal } = surroundings;
      const result = await transcribeMany(wanted, surroundings, { jobs, display, signal });
      outcomes.push(...result.outcomes);
      stoppedBy = result.stoppedBy;
    });
  }
  const failed = outcomes.filter(({ status }) => status === 'failed').length;
  const left = outcomes.filter(({ status }) => status === 'left').length;
  if (!options.quiet || failed + left > 0) say(summary(outcomes).trimEnd());
  if (stoppedBy !== undefined) {
    if (left > 0) say(`${left} of ${outcomes.length} are left: the same command goes on with them.`);
    throw stoppedBy;
  }
  if (failed > 0) throw new Error(`${failed} of ${outcomes.length} recordings failed.`);
}

type ServiceSurroundings = Omit<JobSurroundings, 'progress'>;

/** What goes on only while a service is there, and until somebody interrupts it. */
async function withService(
  options: TranscribeOptions,
  display: ProgressDisplay,
  work: (surroundings: ServiceSurroundings) => Promise<void>,
): Promise<void> {
  const { server, apiKey } = options;
  const interrupted = interruption();
  const told = new Set<string>();
  let service: JobService | undefined;
  try {
    service = await provideService(options);
    interrupted.throwIfAborted();
    await work({
      client: new Client(service.url, service.apiKey),
      service,
      isElsewhere: server !== undefined,
      options: requestOptions(options),
      uploads: server === undefined ? undefined : new UploadStates({ server, apiKey }),
      signal: AbortSignal.any([interrupted, ...(service.failure ? [service.failure] : [])]),
      tellModel(text) {
        if (!told.has(text)) display.note(text);
        told.add(text);
      },
    });
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

/** Only what was asked for: the service knows its own defaults. */
function requestOptions(options: TranscribeOptions): RequestOptions {
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
    vad_method: options.vadMethod,
    channels: options.channels,
    audio_track: options.audioTrack,
    save_beside_source: options.saveBeside?.join(','),
  };
  return Object.fromEntries(
    Object.entries(asked).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
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

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
