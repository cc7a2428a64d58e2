import type { z } from 'zod';
import { readJson, writeJson } from '../blobs/blobs.ts';
import type { CheckpointRun, Engine, JobRecord } from '../job.ts';
import { checkpointKey, checkpointPartKey } from '../objects.ts';
import { type JobSession, LeaseLost } from './job-session.ts';
import type { WorkerContext } from './worker-context.ts';

/** No work on the audio yet. What has arrived of a link is something else. */
export function noWork(): Pick<JobRecord['checkpoints'], 'speech' | 'transcribe' | 'align' | 'diarize'> {
  return { speech: null, transcribe: [], align: [], diarize: null };
}

/**
 * The first thing an engine does. A job that another engine has begun with it begins anew: neither understands the
 * other's checkpoints.
 */
export async function takeUp(session: JobSession, engine: Engine): Promise<void> {
  if (session.record.engine === engine) return;
  await session.update((record) => {
    // Records that were written before there was a second engine are WhisperX's.
    if (record.engine !== null || engine !== 'whisperx') {
      record.checkpoints = { ...record.checkpoints, ...noWork() };
      record.stages = record.stages.filter(({ name }) => name === 'fetch' || name === 'decode');
      record.language = null;
    }
    record.engine = engine;
  });
}

/** Stages that finish in one go, and where the record names their result. */
const WHOLE = { 'detect-speech': 'speech', diarize: 'diarize' } as const;
/** Stages that finish piece by piece. */
export type PiecewiseStage = 'transcribe' | 'align';

/** The stored result of a finished stage, or `work` done now and stored. */
export async function checkpointed<T>(
  { blobs }: Pick<WorkerContext, 'blobs'>,
  session: JobSession,
  stage: keyof typeof WHOLE,
  schema: z.ZodType<T>,
  work: () => Promise<T>,
): Promise<T> {
  const field = WHOLE[stage];
  const stored = session.record.checkpoints[field];
  if (stored !== null) return schema.parse(await readJson(blobs, stored));
  const result = await work();
  const key = checkpointKey(session.job, session.epoch, stage);
  await writeJson(blobs, key, result);
  await session.update((record) => {
    record.checkpoints[field] = key;
  });
  return result;
}

/** Long enough that storing costs little beside the work, short enough that a crash repeats seconds of it. */
const PART_INTERVAL_MS = 2_000;

/**
 * The pieces of a stage, in order. Each call of `append` adds the next ones; they are stored as parts whose keys count
 * up, and the record holds only how many parts each epoch has: it does not grow with the recording.
 */
export class Pieces<T> {
  readonly #context: Pick<WorkerContext, 'blobs'>;
  readonly #session: JobSession;
  readonly #stage: PiecewiseStage;
  readonly #all: T[];
  #unstored: T[] = [];
  #parts = 0;
  #growth = Promise.withResolvers<void>();
  #storedAtMs = performance.now();

  private constructor(
    context: Pick<WorkerContext, 'blobs'>,
    session: JobSession,
    stage: PiecewiseStage,
    found: T[],
  ) {
    this.#context = context;
    this.#session = session;
    this.#stage = stage;
    this.#all = found;
  }

  /** With what earlier attempts have stored. */
  static async open<T>(
    context: Pick<WorkerContext, 'blobs'>,
    session: JobSession,
    stage: PiecewiseStage,
    schema: z.ZodType<T>,
  ): Promise<Pieces<T>> {
    const found: T[] = [];
    for (const { epoch, parts } of session.record.checkpoints[stage]) {
      for (let part = 0; part < parts; part++) {
        const key = checkpointPartKey(session.job, epoch, stage, part);
        found.push(...schema.array().parse(await readJson(context.blobs, key)));
      }
    }
    return new Pieces(context, session, stage, found);
  }

  get all(): readonly T[] {
    return this.#all;
  }

  /** Those that a crash does not take back: what is made of them may be stored. */
  get stored(): readonly T[] {
    return this.#all.slice(0, this.#all.length - this.#unstored.length);
  }

  /** Resolves once more are stored than now. */
  grown(): Promise<void> {
    return this.#growth.promise;
  }

  async append(pieces: readonly T[]): Promise<void> {
    this.#add(pieces);
    if (performance.now() - this.#storedAtMs >= PART_INTERVAL_MS) await this.flush();
  }

  /** The same, stored at once; `also` changes the record in the same write, and may be called more than once. */
  async store(pieces: readonly T[], also: (record: JobRecord) => void): Promise<void> {
    this.#add(pieces);
    await this.flush(also);
  }

  #add(pieces: readonly T[]): void {
    this.#all.push(...pieces);
    this.#unstored.push(...pieces);
  }

  /** Stores what is not stored yet. */
  async flush(also: (record: JobRecord) => void = () => {}): Promise<void> {
    // Nobody would ever read them, or remove them.
    const isLost = this.#session.signal.reason instanceof LeaseLost;
    if (this.#unstored.length === 0 || isLost) return;
    const key = checkpointPartKey(this.#session.job, this.#session.epoch, this.#stage, this.#parts);
    await writeJson(this.#context.blobs, key, this.#unstored);
    const parts = this.#parts + 1;
    await this.#session.update((record) => {
      setParts(record.checkpoints[this.#stage], this.#session.epoch, parts);
      also(record);
    });
    this.#parts = parts;
    this.#unstored = [];
    this.#storedAtMs = performance.now();
    this.#growth.resolve();
    this.#growth = Promise.withResolvers();
  }
}

function setParts(runs: CheckpointRun[], epoch: number, parts: number): void {
  const run = runs.find((candidate) => candidate.epoch === epoch);
  if (run === undefined) runs.push({ epoch, parts });
  else run.parts = parts;
}
