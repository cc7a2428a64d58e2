import { Readable } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import { isVoxtral } from '../../core/backends.ts';
import { checkCapabilities } from '../../core/capabilities.ts';
import { usageOf } from '../../core/costs/usage.ts';
import { hotwordTerms } from '../../core/hotwords.ts';
import { JobRecord, type Warning } from '../../core/job.ts';
import { UNKNOWN_LANGUAGE } from '../../core/languages.ts';
import { audioPieceKey, jobKey } from '../../core/objects.ts';
import { ServiceError } from '../../core/problem.ts';
import { SAMPLE_RATE } from '../../core/sample-rate.ts';
import { checkpointed, noWork, Pieces, takeUp } from '../../core/tasks/checkpoints.ts';
import type { JobSession, Report } from '../../core/tasks/job-session.ts';
import type { Outcome } from '../../core/tasks/outcome.ts';
import { runJobTask } from '../../core/tasks/run-job-task.ts';
import type { TaskPayload } from '../../core/tasks/task.ts';
import type { WorkerContext } from '../../core/tasks/worker-context.ts';
import { toTheMillisecond } from '../../core/to-the-millisecond.ts';
import type { SourceWriteAccess } from '../../core/transcripts/save-beside-source.ts';
import { writeTranscript } from '../../core/transcripts/write-transcript.ts';
import {
  VOXTRAL_MODEL_NAMES,
  VOXTRAL_MODELS,
  type VoxtralModelName,
  voxtralCapabilities,
} from '../../core/voxtral-models.ts';
import { AnsweredPiece, type AudioPiece, Plan } from './answered-piece.ts';
import { askPatiently, PATIENCE, type Patience } from './ask-patiently.ts';
import type { AudioCarrier } from './audio-carrier.ts';
import { cutAudio } from './cut-audio.ts';
import { flacWithSampleCount } from './flac-header.ts';
import { Frames } from './frames.ts';
import { GRACE, type Grace, InFlight } from './in-flight.ts';
import { Loudness } from './loudness.ts';
import type { Answer, Mistral, Question } from './mistral.ts';
import { cutWindows } from './quiet-cuts.ts';
import { readPcm } from './read-pcm.ts';
import { stitch } from './stitch.ts';

export interface VoxtralTools {
  mistral: Mistral;
  carrier: AudioCarrier;
  ffmpegPath: string;
  /** For transcripts that are to lie beside their sources. */
  access: SourceWriteAccess;
  patience?: Patience;
  grace?: Grace;
  /** The longest piece; a test makes it shorter. Speakers are told apart in pieces as long as the model takes. */
  pieceSeconds?: { withSpeakers: number; without: number };
}

/** A lost answer then costs nine cents, and pieces are worked on at the same time. */
const PIECE_SECONDS = 30 * 60;
/** Requests of one job at a time. */
const PARALLEL = 4;

/**
 * THE WORKER of the tier standard: audio → Mistral's API → transcript. Each answer is stored as it comes, with what it
 * cost, so whatever happens, only what was not answered is asked, and paid, again.
 */
export async function transcribeWithVoxtral(
  context: WorkerContext,
  tools: VoxtralTools,
  payload: TaskPayload,
  interruption: AbortSignal,
): Promise<Outcome> {
  if (!(await belongsHere(context, payload))) return { kind: 'done' };
  return runJobTask(context, 'transcribe', payload, interruption, async (session) => {
    const backend = context.backends.find(({ name }) => name === session.record.backend);
    if (backend === undefined || !isVoxtral(backend)) throw new TypeError('the job has gone elsewhere');
    const model = modelFor(session.record, backend);
    await takeUp(session, 'voxtral');
    const queueSeconds = (Date.now() - Date.parse(session.record.queued_at)) / 1_000;
    await session.update((record) => {
      record.model = model;
      usageOf(record, backend.name).model = model;
      record.warnings = record.warnings.filter(({ code }) => code === 'media-damaged');
      record.metrics.queue_seconds ??= toTheMillisecond(queueSeconds);
    });
    const transcript = await new VoxtralJob(context, tools, session, model).run().catch(async (error) => {
      await forgive(session, error);
      throw error;
    });
    await writeTranscript(context, tools.access, session, transcript);
    return { kind: 'done' };
  });
}

/**
 * What was answered by one model is not mixed with another's, and what was accepted is done: the backend may have
 * another default by now.
 */
function modelFor(record: JobRecord, backend: Parameters<typeof voxtralCapabilities>[0]): VoxtralModelName {
  const { options, checkpoints } = record;
  const before = VOXTRAL_MODEL_NAMES.find((name) => name === record.model) ?? null;
  const capabilities = voxtralCapabilities(backend);
  const check = (model: string | null) => checkCapabilities({ ...options, model }, capabilities);
  const isBegun = checkpoints.transcribe.length > 0;
  if (before !== null && isBegun) return check(options.model ?? before) as VoxtralModelName;
  try {
    return check(options.model) as VoxtralModelName;
  } catch (error) {
    if (before === null || options.model !== null) throw error;
    return check(before) as VoxtralModelName;
  }
}

/** An attempt that Mistral has answered some of counts as none: there are no more of those than pieces. */
async function forgive(session: JobSession, error: unknown): Promise<void> {
  if (!(error instanceof ServiceError) || error.slug !== 'voxtral-unavailable') return;
  if (isDeepStrictEqual(session.record.checkpoints.transcribe, session.checkpointsBefore.transcribe)) return;
  const { attempt, part } = session.triesBefore.transcribe;
  await session.update((record) => {
    record.tries.transcribe = { attempt, part };
  });
}

/** A task that comes late must not take a job that another backend has by now. */
async function belongsHere(context: WorkerContext, { job }: TaskPayload): Promise<boolean> {
  if (job === undefined) return true;
  const stored = await context.records.read(jobKey(job));
  if (stored === undefined) return true;
  const { backend: name } = JobRecord.parse(stored.value);
  const backend = context.backends.find((one) => one.name === name);
  if (backend !== undefined && isVoxtral(backend)) return true;
  context.log.info({ job: job.id, backend: name }, 'the job has gone to another backend');
  return false;
}

interface MissingPiece {
  piece: AudioPiece;
  index: number;
  /** It was answered once, without words. */
  isDoubtful: boolean;
}

const NOTHING = { text: '', language: null, segments: [] };

class VoxtralJob {
  readonly #context: WorkerContext;
  readonly #tools: VoxtralTools;
  readonly #session: JobSession;
  readonly #model: VoxtralModelName;
  /** Answers are stored one after the other. */
  #storing: Promise<void> = Promise.resolve();
  /** Paid for and not in the record yet. */
  #unrecorded = { paid: 0, lost: 0 };

  constructor(context: WorkerContext, tools: VoxtralTools, session: JobSession, model: VoxtralModelName) {
    this.#context = context;
    this.#tools = tools;
    this.#session = session;
    this.#model = model;
  }

  async run() {
    const { options } = this.#session.record;
    const pieces = await this.#pieces();
    const answers = await this.#transcribe(pieces);
    const transcript = stitch(pieces, answers, {
      wordTimestamps: options.word_timestamps,
      diarize: options.diarize,
      channels: options.channels,
    });
    const { language, segments, speakers } = transcript;
    const warnings = warningsOf(pieces, answers, {
      diarize: options.diarize,
      hasWords: segments.length > 0,
      hasSpeakers: speakers.length > 0,
    });
    await this.#session.update((record) => {
      record.warnings.push(...warnings);
      record.language = language === UNKNOWN_LANGUAGE ? null : { code: language, probability: null };
    });
    return transcript;
  }

  async #pieces(): Promise<readonly AudioPiece[]> {
    const plan = () =>
      checkpointed(this.#context, this.#session, 'detect-speech', Plan, () =>
        this.#session.stage('detect-speech', () => this.#plan()),
      );
    const { pieces } = await plan();
    const { maxSeconds } = VOXTRAL_MODELS[this.#model];
    if (pieces.every((piece) => seconds(piece) <= maxSeconds)) return pieces;
    // They are another model's, which takes more in one request.
    await this.#session.update((record) => {
      Object.assign(record.checkpoints, noWork());
    });
    return (await plan()).pieces;
  }

  async #plan(): Promise<Plan> {
    const { record, job, epoch, signal } = this.#session;
    const { blobs } = this.#context;
    const { ffmpegPath, carrier } = this.#tools;
    const keys = record.objects.audio ?? [];
    const stored = await Promise.all(keys.map((key) => blobs.stat(key)));
    if (stored.length === 0 || stored.includes(undefined) || record.duration_seconds === null)
      throw audioGone();
    const samples = Math.round(record.duration_seconds * SAMPLE_RATE);
    const windows = cutWindows(samples, this.#pieceSeconds() * SAMPLE_RATE);
    const pieces: AudioPiece[] = [];
    for (const [channel, key] of keys.entries()) {
      const pieceKey = (piece: number) => audioPieceKey(job, epoch, channel, piece);
      const open = () => blobs.read(key, { signal });
      const store = (flac: Readable, piece: number) =>
        blobs.write(pieceKey(piece), flac, { contentType: 'audio/flac', signal });
      if (windows.length === 0) {
        // Ingest's FLAC does not say how long it is.
        if (carrier.mayLink) await store(Readable.from(flacWithSampleCount(await open(), samples)), 0);
        pieces.push({ key: carrier.mayLink ? pieceKey(0) : key, channel, from: 0, to: samples });
        continue;
      }
      const stretches = await cutAudio(open, windows, store, { ffmpegPath, signal });
      pieces.push(...stretches.map((stretch, piece) => ({ key: pieceKey(piece), channel, ...stretch })));
    }
    return { pieces };
  }

  #pieceSeconds(): number {
    const { maxSeconds } = VOXTRAL_MODELS[this.#model];
    const { withSpeakers, without } = this.#tools.pieceSeconds ?? {
      withSpeakers: maxSeconds,
      without: PIECE_SECONDS,
    };
    return Math.min(maxSeconds, this.#session.record.options.diarize ? withSpeakers : without);
  }

  async #transcribe(pieces: readonly AudioPiece[]): Promise<readonly AnsweredPiece[]> {
    const stored = await Pieces.open(this.#context, this.#session, 'transcribe', AnsweredPiece);
    const answers = latest(stored.all);
    const missing = pieces
      .map((piece, index) => ({ piece, index, isDoubtful: answers.get(index)?.is_doubtful === true }))
      .filter(({ index, isDoubtful }) => isDoubtful || !answers.has(index));
    this.#context.log.info(
      { job: this.#session.job.id, pieces: pieces.length, stored: pieces.length - missing.length },
      'asking Mistral for what is not stored yet',
    );
    if (missing.length > 0) {
      await this.#session.stage('transcribe', (report) => this.#askAll(pieces, missing, stored, report));
    }
    return [...latest(stored.all).values()];
  }

  async #askAll(
    pieces: readonly AudioPiece[],
    missing: readonly MissingPiece[],
    stored: Pieces<AnsweredPiece>,
    report: Report,
  ): Promise<void> {
    const { grace = GRACE } = this.#tools;
    using inFlight = new InFlight(this.#session, grace, this.#context.timing.renewMs);
    const failed = new AbortController();
    // Where one piece has failed, or the job is to stop, no request is begun. Those that run are waited for.
    const begin = AbortSignal.any([this.#session.signal, failed.signal]);
    const total = seconds(...pieces);
    const waiting = missing.values();
    const work = async () => {
      for (const one of waiting) {
        if (begin.aborted) return;
        const keep = (answer: AnsweredPiece) => this.#store(stored, answer);
        await keep(await this.#ask(one, begin, inFlight.signal, keep));
        const done = seconds(...[...latest(stored.all).keys()].map((index) => pieces[index] as AudioPiece));
        report(done / total, { done, total, unit: 'seconds' });
      }
    };
    const workers = Array.from({ length: PARALLEL }, () => work().catch((error) => failed.abort(error)));
    await Promise.all(workers);
    // What could not be stored a moment ago.
    await this.#oneByOne((noteUsage) => stored.flush(noteUsage));
    await this.#recordUsage();
    this.#session.signal.throwIfAborted();
    failed.signal.throwIfAborted();
  }

  async #ask(
    { piece, index, isDoubtful }: MissingPiece,
    begin: AbortSignal,
    finish: AbortSignal,
    keep: (answer: AnsweredPiece) => Promise<void>,
  ): Promise<AnsweredPiece> {
    const { options } = this.#session.record;
    const { mistral, carrier, patience = PATIENCE } = this.#tools;
    const question: Omit<Question, 'audio'> = {
      model: this.#model,
      granularity: options.word_timestamps ? 'word' : 'segment',
      diarize: options.diarize,
      // Without spaces and commas, as the API wants them.
      contextBias: hotwordTerms(options.hotwords ?? '').map((term) => term.replaceAll(' ', '_')),
    };
    const length = seconds(piece);
    const ask = async (): Promise<Answer> => {
      const answer = await askPatiently(
        question,
        length,
        () => carrier.carry(piece.key, piece.to - piece.from, finish),
        {
          mistral,
          patience,
          begin,
          finish,
          onLost: () => {
            this.#unrecorded.lost += length;
            return this.#recordUsage();
          },
        },
      );
      this.#unrecorded.paid += answer.paidSeconds ?? Math.ceil(length);
      return answer;
    };
    const asPiece = ({ text, language, segments }: Answer) => ({ index, text, language, segments });
    if (!isDoubtful) {
      const answer = await ask();
      if (!isEmpty(answer)) return { ...asPiece(answer), lacks_words: false };
      // Now and then that is a failure that calls itself a success. It is paid for all the same, so whatever comes
      // between now and the second answer, there is no third.
      await keep({ ...asPiece(answer), lacks_words: true, is_doubtful: true });
    }
    if (!(await this.#mayHaveSpeech(piece, finish))) return { ...NOTHING, index, lacks_words: false };
    begin.throwIfAborted();
    const answer = await ask();
    return { ...asPiece(answer), lacks_words: isEmpty(answer) };
  }

  async #mayHaveSpeech(piece: AudioPiece, signal: AbortSignal): Promise<boolean> {
    const loudness = new Loudness();
    const frames = new Frames((energy) => loudness.add(energy));
    const open = () => this.#context.blobs.read(piece.key, { signal });
    for await (const pcm of readPcm(open, { ffmpegPath: this.#tools.ffmpegPath, signal })) frames.push(pcm);
    return loudness.isLikeSpeech;
  }

  /** With its answer the record tells what it cost: both are there, or neither. */
  #store(stored: Pieces<AnsweredPiece>, answer: AnsweredPiece): Promise<void> {
    return this.#oneByOne((noteUsage) => stored.store([answer], noteUsage));
  }

  #recordUsage(): Promise<void> {
    return this.#oneByOne(async (noteUsage) => {
      if (this.#unrecorded.paid > 0 || this.#unrecorded.lost > 0) await this.#session.update(noteUsage);
    });
  }

  #oneByOne(write: (noteUsage: (record: JobRecord) => void) => Promise<void>): Promise<void> {
    const result = this.#storing.then(async () => {
      const { paid, lost } = this.#unrecorded;
      let isNoted = false;
      await write((record) => {
        isNoted = true;
        const usage = usageOf(record, record.backend);
        usage.api_audio_seconds += paid;
        usage.unconfirmed_audio_seconds += lost;
      });
      // There was nothing to write.
      if (!isNoted) return;
      this.#unrecorded.paid -= paid;
      this.#unrecorded.lost -= lost;
    });
    this.#storing = result.catch(() => {});
    return result;
  }
}

function warningsOf(
  pieces: readonly AudioPiece[],
  answers: readonly AnsweredPiece[],
  { diarize, hasWords, hasSpeakers }: { diarize: boolean; hasWords: boolean; hasSpeakers: boolean },
): Warning[] {
  const warnings: Warning[] = [];
  const lacking = answers
    .filter(({ lacks_words }) => lacks_words)
    .map(({ index }) => pieces[index] as AudioPiece);
  if (lacking.length > 0) {
    const spans = lacking.map(({ from, to }) => `${inMinutes(from)} to ${inMinutes(to)}`);
    warnings.push({
      code: 'words-missing',
      message: `Mistral found no words, though it is not silent there: ${spans.join(', ')}.`,
    });
  } else if (!hasWords) {
    warnings.push({ code: 'no-speech', message: 'No speech was found in the recording.' });
  }
  const inOneChannel = pieces.filter(({ channel }) => channel === 0).length;
  if (diarize && hasSpeakers && inOneChannel > 1) {
    warnings.push({
      code: 'speakers-not-matched',
      message: `The recording was sent in ${inOneChannel} pieces. Each piece has speakers of its own: the same person has another name in each.`,
    });
  }
  return warnings;
}

/** The last that was stored of each piece. */
function latest(answers: readonly AnsweredPiece[]): Map<number, AnsweredPiece> {
  return new Map(answers.map((answer) => [answer.index, answer]));
}

function isEmpty({ text, segments }: Answer): boolean {
  return text.trim() === '' && segments.every((segment) => segment.text.trim() === '');
}

function seconds(...pieces: readonly AudioPiece[]): number {
  return pieces.reduce((sum, { from, to }) => sum + to - from, 0) / SAMPLE_RATE;
}

/** `1:05:00`. */
function inMinutes(samples: number): string {
  const total = Math.floor(samples / SAMPLE_RATE);
  const [hours, minutes, rest] = [Math.floor(total / 3_600), Math.floor(total / 60) % 60, total % 60];
  return [hours, ...[minutes, rest].map((part) => String(part).padStart(2, '0'))].join(':');
}

function audioGone(): ServiceError {
  return new ServiceError('media-gone', 'The audio of this job is no longer stored. Submit the media again.');
}
