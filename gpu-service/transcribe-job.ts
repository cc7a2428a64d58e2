import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { type Capabilities, checkCapabilities } from '../core/capabilities.ts';
import type { Warning } from '../core/job.ts';
import { ServiceError } from '../core/problem.ts';
import { SAMPLE_RATE } from '../core/sample-rate.ts';
import { checkpointed, Pieces, takeUp } from '../core/tasks/checkpoints.ts';
import { ATTEMPT_LIMIT } from '../core/tasks/claim-job.ts';
import type { JobSession, Report, WaitFor } from '../core/tasks/job-session.ts';
import type { Outcome } from '../core/tasks/outcome.ts';
import { runJobTask } from '../core/tasks/run-job-task.ts';
import type { TaskPayload } from '../core/tasks/task.ts';
import type { WorkerContext } from '../core/tasks/worker-context.ts';
import { spanSeconds, toTheMillisecond } from '../core/to-the-millisecond.ts';
import type { SourceWriteAccess } from '../core/transcripts/save-beside-source.ts';
import { separateChannels } from '../core/transcripts/separate-channels.ts';
import { writeTranscript } from '../core/transcripts/write-transcript.ts';
import { buildTranscript } from './build-transcript.ts';
import { addLoads, describeColdStart, type Span } from './cold-start.ts';
import { type DecodedAudio, decodeAudio } from './decode-audio.ts';
import {
  type Align,
  AlignedChunk,
  type Chunk,
  type DetectSpeech,
  type Diarize,
  type Loadable,
  type PcmFile,
  RESULTS,
  type SidecarCommand,
  type SidecarResult,
  type Transcribe,
  TranscribedChunk,
} from './supervisor/protocol.ts';
import { SidecarExited, SidecarRefused } from './supervisor/sidecar-errors.ts';
import type { SidecarStart } from './supervisor/sidecar-start.ts';
import type { Sidecars } from './supervisor/sidecars.ts';

export interface TranscribeTools {
  sidecars: Sidecars;
  capabilities: Capabilities;
  /**
   * Whether the annotator works while the recognizer still does. On a GPU it hides most of its time; the two on the
   * same processor cores only keep each other from them.
   */
  overlapsStages: boolean;
  ffmpegPath: string;
  /** Where the audio is unpacked while the job runs: 115 MB an hour, and channel. */
  scratchDir: string;
  /** For transcripts that are to lie beside their sources. */
  access: SourceWriteAccess;
}

/** THE WORKER: audio → sidecar → transcript, from the last checkpoint on. Safe to run twice; knows no platform. */
export function transcribeJob(
  context: WorkerContext,
  tools: TranscribeTools,
  payload: TaskPayload,
  interruption: AbortSignal,
): Promise<Outcome> {
  return runJobTask(context, 'transcribe', payload, interruption, async (session) => {
    const model = checkCapabilities(session.record.options, tools.capabilities);
    await takeUp(session, 'whisperx');
    const fromMs = performance.now();
    // The audio comes while the models load.
    const ready = waitForModels(session, model, tools.sidecars);
    // Awaited below; a failure before that is not an unhandled one.
    ready.catch(() => {});
    const audio = await unpackAudio(context, tools, session);
    const unpacking = { fromMs, toMs: performance.now() };
    try {
      await recordColdStart(session, await ready, unpacking);
      const transcript = await new TranscribeStages(context, tools, session, model, audio).run();
      await writeTranscript(context, tools.access, session, transcript);
      return { kind: 'done' };
    } finally {
      await rm(audio.pcm.path, { force: true });
    }
  });
}

/** How long the job waited for this moment. That for the models, which follows, is nobody's work, so no stage's time. */
async function waitForModels(session: JobSession, model: string, sidecars: Sidecars): Promise<SidecarStart> {
  const ready = sidecars.whenReady(session.signal);
  ready.catch(() => {});
  const queueSeconds = (Date.now() - Date.parse(session.record.queued_at)) / 1_000;
  await session.update((record) => {
    record.model = model;
    record.warnings = record.warnings.filter(({ code }) => code === 'media-damaged');
    record.metrics.queue_seconds ??= toTheMillisecond(queueSeconds);
  });
  return ready;
}

async function recordColdStart(session: JobSession, start: SidecarStart, unpacking: Span): Promise<void> {
  const waitedSeconds = spanSeconds(start.readyMs - unpacking.fromMs);
  const coldStart = describeColdStart(start, Date.parse(session.record.queued_at), unpacking);
  await session.update(({ metrics }) => {
    metrics.cold_start_seconds ??= waitedSeconds;
    metrics.cold_start ??= coldStart;
  });
}

async function unpackAudio(
  { blobs }: WorkerContext,
  { ffmpegPath, scratchDir }: TranscribeTools,
  session: JobSession,
): Promise<DecodedAudio> {
  const channels = session.record.objects.audio ?? [];
  const stored = await Promise.all(channels.map((key) => blobs.stat(key)));
  if (stored.length === 0 || stored.includes(undefined)) {
    throw new ServiceError(
      'media-gone',
      'The audio of this job is no longer stored. Submit the media again.',
    );
  }
  const path = join(scratchDir, `${session.job.id}-${session.epoch}.pcm`);
  const opening = channels.map((key) => () => blobs.read(key));
  return decodeAudio(opening, path, { ffmpegPath, signal: session.signal });
}

/** The stages of one job, with what they share. */
class TranscribeStages {
  readonly #context: WorkerContext;
  readonly #tools: TranscribeTools;
  readonly #session: JobSession;
  readonly #model: string;
  readonly #audio: DecodedAudio;
  readonly #pcm: PcmFile;
  /** Ends what still runs when the job fails. */
  readonly #failure = new AbortController();
  readonly #signal: AbortSignal;
  /** What the transcription has thrown: there will be no text, whatever else has worked. */
  #whyNoText: unknown;

  constructor(
    context: WorkerContext,
    tools: TranscribeTools,
    session: JobSession,
    model: string,
    audio: DecodedAudio,
  ) {
    this.#context = context;
    this.#tools = tools;
    this.#session = session;
    this.#model = model;
    this.#audio = audio;
    this.#pcm = audio.pcm;
    this.#signal = AbortSignal.any([session.signal, this.#failure.signal]);
  }

  async run() {
    const { options } = this.#session.record;
    const { channelStarts, durationSeconds } = this.#audio;
    const { chunks } = await this.#detectSpeech();
    if (chunks.length === 0) await this.#warn('no-speech', 'No speech was found in the recording.');
    const language = await this.#detectLanguage(chunks);
    const { transcribed, aligned, turns } = await this.#recognizeAndAnnotate(chunks, language);
    const transcript = buildTranscript({
      chunks: transcribed,
      aligned,
      turns,
      // A translation is always into English.
      language: options.task === 'translate' ? 'en' : language,
      durationSeconds: this.#pcm.samples / SAMPLE_RATE,
      wordTimestamps: options.word_timestamps,
    });
    return options.channels === 'separate'
      ? separateChannels(transcript, channelStarts, durationSeconds)
      : transcript;
  }

  #detectSpeech(): Promise<SidecarResult<'detect_speech'>> {
    const { vad_method, vad_onset, vad_offset, chunk_size } = this.#session.record.options;
    const command = {
      type: 'detect_speech',
      audio: this.#pcm,
      method: vad_method,
      vad_onset,
      vad_offset,
      chunk_size,
    } as const;
    return this.#checkpointed('detect-speech', command);
  }

  async #detectLanguage(chunks: readonly Chunk[]): Promise<string> {
    const known = this.#session.record.language;
    if (known !== null) return known.code;
    const asked = this.#session.record.options.language;
    let language: { code: string; probability: number | null };
    if (asked !== null) {
      language = { code: asked, probability: null };
    } else {
      const found = await this.#run({
        type: 'detect_language',
        audio: this.#pcm,
        model: this.#model,
        chunks: [...chunks],
      });
      language = { code: found.language, probability: found.probability };
    }
    await this.#session.update((record) => {
      record.language = language;
    });
    return language.code;
  }

  /** The text, and word times and speakers meanwhile. */
  async #recognizeAndAnnotate(chunks: readonly Chunk[], language: string) {
    const transcribed = await Pieces.open(this.#context, this.#session, 'transcribe', TranscribedChunk);
    const transcription = this.#transcribe(transcribed, chunks, language);
    transcription.catch((error: unknown) => {
      this.#whyNoText = error;
    });
    const isNeeded = this.#session.record.options.diarize && chunks.length > 0;
    const alignment = this.#align(transcribed, transcription, chunks, language);
    const before = this.#tools.overlapsStages ? [] : [transcription, alignment];
    const diarization = Promise.all(before).then(() => (isNeeded ? this.#diarize() : undefined));
    const [, aligned, turns] = await this.#together([transcription, alignment, diarization]);
    return { transcribed: transcribed.all, aligned, turns };
  }

  async #transcribe(
    pieces: Pieces<TranscribedChunk>,
    chunks: readonly Chunk[],
    language: string,
  ): Promise<void> {
    const { task, prompt, hotwords, word_timestamps } = this.#session.record.options;
    const remaining = chunks.slice(pieces.all.length);
    this.#context.log.info(
      { job: this.#session.job.id, chunks: chunks.length, stored: pieces.all.length },
      'transcribing what is not stored yet',
    );
    if (remaining.length === 0) return;
    const command: Transcribe = {
      type: 'transcribe',
      audio: this.#pcm,
      model: this.#model,
      chunks: remaining,
      language,
      task,
      prompt: prompt ?? null,
      hotwords: hotwords ?? null,
      word_timestamps,
    };
    await this.#session.stage('transcribe', (report, waitFor) =>
      this.#fill(pieces, chunks, command, { report, waitFor }),
    );
  }

  async #align(
    transcribed: Pieces<TranscribedChunk>,
    transcription: Promise<void>,
    chunks: readonly Chunk[],
    language: string,
  ): Promise<readonly AlignedChunk[] | undefined> {
    const { word_timestamps, task } = this.#session.record.options;
    // A translation is not what was said, so it cannot be aligned with it.
    if (!word_timestamps || task === 'translate') return undefined;
    if (!this.#tools.capabilities.alignment_languages.includes(language)) return undefined;
    const pieces = await Pieces.open(this.#context, this.#session, 'align', AlignedChunk);
    if (pieces.all.length === chunks.length) return pieces.all;
    if (this.#session.record.given_up.includes('align')) {
      await this.#warn(
        'alignment-failed',
        'Some word times come from cross-attention: the alignment took too long.',
      );
      return pieces.all;
    }
    if (!this.#tools.overlapsStages) await transcription;
    return this.#orWarning(
      'alignment-failed',
      'Word times come from cross-attention: the alignment failed.',
      () =>
        this.#session.stage('align', async (report, waitFor) => {
          await this.#alignWhatComes(pieces, transcribed, transcription, {
            chunks,
            language,
            report,
            waitFor,
          });
          return pieces.all;
        }),
    );
  }

  /** As long as there is something to align, or may be. @throws what the transcription threw, if that has failed */
  async #alignWhatComes(
    pieces: Pieces<AlignedChunk>,
    transcribed: Pieces<TranscribedChunk>,
    transcription: Promise<void>,
    {
      chunks,
      language,
      report,
      waitFor,
    }: { chunks: readonly Chunk[]; language: string; report: Report; waitFor: WaitFor },
  ): Promise<void> {
    let hasEnded = false;
    const end = () => {
      hasEnded = true;
    };
    const ending = transcription.then(end, end);
    for (;;) {
      const isComplete = hasEnded;
      // Text that a crash takes back may come out differently, and would no longer be the text of these words.
      const text = transcribed.stored.slice(pieces.all.length);
      if (text.length > 0) {
        const command: Align = {
          type: 'align',
          audio: this.#pcm,
          language,
          chunks: text.map(({ start, end, text }) => ({ start, end, text })),
        };
        await this.#fill(pieces, chunks, command, { report, waitFor });
      } else if (isComplete) return transcription;
      else await waitFor(Promise.race([transcribed.grown(), ending]));
    }
  }

  async #diarize(): Promise<SidecarResult<'diarize'>['turns'] | undefined> {
    if (this.#session.record.given_up.includes('diarize')) {
      await this.#warn(
        'diarization-failed',
        'The transcript has no speakers: the diarization took too long.',
      );
      return undefined;
    }
    const { num_speakers = null, min_speakers = null, max_speakers = null } = this.#session.record.options;
    const command = { type: 'diarize', audio: this.#pcm, num_speakers, min_speakers, max_speakers } as const;
    const result = await this.#orWarning(
      'diarization-failed',
      'The transcript has no speakers: the diarization failed.',
      () => this.#checkpointed('diarize', command),
    );
    return result?.turns;
  }

  /** Runs a command whose batches are the next pieces. What came before it was stopped is stored too. */
  async #fill<T>(
    pieces: Pieces<T>,
    spans: readonly Chunk[],
    command: Transcribe | Align,
    { report, waitFor }: { report: Report; waitFor: WaitFor },
  ): Promise<void> {
    const before = pieces.all.length;
    const expected = before + command.chunks.length;
    try {
      await this.#run(command, {
        waitFor,
        // More than has come: batches can be done ahead of their turn.
        onProgress: (fraction) => report((before + fraction * command.chunks.length) / spans.length),
        onBatch: async (batch) => {
          await pieces.append(batch as T[]);
          const { end } = spans[pieces.all.length - 1] as Chunk;
          const length = this.#pcm.samples / SAMPLE_RATE;
          report(pieces.all.length / spans.length, { done: end, total: length, unit: 'seconds' });
        },
      });
    } finally {
      await pieces.flush();
    }
    if (pieces.all.length !== expected) {
      throw new ServiceError(
        'sidecar-failed',
        `The transcriber left out parts of the recording (${command.type}). The job will be tried again.`,
      );
    }
  }

  /**
   * All of them. When one fails and will be tried again, that is no reason to throw away what another is about to
   * finish, which is stored for the next attempt; any other failure of one ends the rest.
   */
  async #together<T extends readonly Promise<unknown>[]>(
    works: T,
  ): Promise<{ [I in keyof T]: Awaited<T[I]> }> {
    for (const work of works) {
      work.catch((error: unknown) => {
        if (!(error instanceof ServiceError && error.retry)) this.#failure.abort(error);
      });
    }
    await Promise.allSettled<unknown>(works);
    this.#failure.signal.throwIfAborted();
    return (await Promise.all(works)) as { [I in keyof T]: Awaited<T[I]> };
  }

  /** One command is one stage, and its result one checkpoint. */
  #checkpointed<C extends DetectSpeech | Diarize>(
    stage: 'detect-speech' | 'diarize',
    command: C,
  ): Promise<SidecarResult<C['type']>> {
    const schema = RESULTS[command.type] as z.ZodType as z.ZodType<SidecarResult<C['type']>>;
    return checkpointed(this.#context, this.#session, stage, schema, () =>
      this.#session.stage(stage, (report, waitFor) => this.#run(command, { onProgress: report, waitFor })),
    );
  }

  async #run<C extends SidecarCommand>(
    command: C,
    listeners: {
      onProgress?: (fraction: number) => void;
      onBatch?: (chunks: unknown[]) => Promise<void>;
      waitFor?: WaitFor;
    } = {},
  ): Promise<SidecarResult<C['type']>> {
    let loads: Partial<Record<Loadable, number>> = {};
    const onLoads = (found: typeof loads) => {
      loads = found;
    };
    const result = await this.#tools.sidecars.run(command, { signal: this.#signal, onLoads, ...listeners });
    if (Object.keys(loads).length > 0) {
      await this.#session.update(({ metrics }) => {
        if (metrics.cold_start !== null) addLoads(metrics.cold_start, loads);
      });
    }
    return result;
  }

  /**
   * The text is worth having without this stage: a failure becomes a warning, and the user's retry runs the stage
   * again. What may pass by itself (the sidecar died) is tried again first, while attempts are left.
   */
  async #orWarning<T>(
    code: Warning['code'],
    message: string,
    work: () => Promise<T>,
  ): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      this.#signal.throwIfAborted();
      if (error === this.#whyNoText) throw error;
      const isLastAttempt = this.#session.record.tries.transcribe.attempt >= ATTEMPT_LIMIT;
      if (!(error instanceof ServiceError) || (isSidecarLost(error) && !isLastAttempt)) throw error;
      this.#context.log.error({ err: error, job: this.#session.job.id }, message);
      await this.#warn(code, `${message} ${error.message}`);
      return undefined;
    }
  }

  #warn(code: Warning['code'], message: string): Promise<void> {
    return this.#session.update((record) => {
      record.warnings.push({ code, message });
    });
  }
}

function isSidecarLost(error: ServiceError): boolean {
  // What it lacks it will not have the next time.
  if (error.cause instanceof SidecarRefused) return false;
  const isEnded = error.cause instanceof SidecarExited;
  return isEnded || error.slug === 'sidecar-stalled' || error.slug === 'sidecar-unavailable';
}
