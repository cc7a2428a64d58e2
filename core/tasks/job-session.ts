import { SessionMeter } from '../costs/session-meter.ts';
import { isSettled, JobRecord, STAGES, type StageName, type StageProgress, type StageState } from '../job.ts';
import { type JobRef, jobKey } from '../objects.ts';
import { RecordConflict } from '../records/records.ts';
import { toTheMillisecond } from '../to-the-millisecond.ts';
import { Stopwatch } from './stopwatch.ts';
import type { WorkerContext } from './worker-context.ts';

/** The user asked for it. The worker stops and settles the job as canceled. */
export class JobCanceled extends Error {
  override readonly name = 'JobCanceled';
}

/** Another worker has the job now, or it was deleted: whatever this one still writes will not count. */
export class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
}

/** The process is asked to stop. The job is given back without counting the attempt. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/** This call has lasted as long as it may. What is stored is kept, and a continuation goes on from there. */
export class TimeIsUp extends Error {
  override readonly name = 'TimeIsUp';
}

type Tries = JobRecord['tries'];
/** For whom what the session uses is noted. */
type UsedAt = ConstructorParameters<typeof SessionMeter>[1];

/** Tells how far a stage is, 0 to 1, and in what it counts by. */
export type Report = (fraction: number, progress?: StageProgress) => void;

/** Awaits what is not this stage's own work: another's, or a process that starts. The time is not the stage's. */
export type WaitFor = <T>(other: Promise<T>) => Promise<T>;

interface RunningStage {
  name: StageName;
  /** Of earlier attempts too. Stopped while the stage waits. */
  watch: Stopwatch;
  fraction: number;
  progress: StageProgress | undefined;
}

/**
 * The right to work on one job, from its claim until `end`. Keeps the lease alive, writes progress, and notices when
 * the job is canceled, deleted or taken over: then `signal` aborts with JobCanceled or LeaseLost as its reason.
 * Every change to the record goes through `update`, so it can only happen under this session's epoch.
 */
export class JobSession {
  readonly job: JobRef;
  readonly epoch: number;
  /** As they were before the claim: given back on an interruption, which is nobody's failed attempt. */
  readonly triesBefore: Tries;
  /** Of the claim: what differs from it later is this session's progress. */
  readonly checkpointsBefore: JobRecord['checkpoints'];
  readonly #context: WorkerContext;
  readonly #meter: SessionMeter;
  readonly #abort = new AbortController();
  readonly #ticker: NodeJS.Timeout;
  readonly #limit: NodeJS.Timeout | undefined;
  #record: JobRecord;
  #generation: string;
  #lastWriteMs = performance.now();
  #updates: Promise<void> = Promise.resolve();
  readonly #running = new Set<RunningStage>();
  /** Runs while at least one stage does. */
  readonly #work: Stopwatch;
  #isProgressWritten = true;
  #isTicking = false;

  constructor(
    context: WorkerContext,
    claimed: { record: JobRecord; generation: string; triesBefore: Tries; usedAt: UsedAt },
    interruption: AbortSignal,
  ) {
    this.#context = context;
    this.#record = claimed.record;
    this.#generation = claimed.generation;
    this.job = { owner: claimed.record.owner, id: claimed.record.id };
    this.epoch = claimed.record.epoch;
    this.triesBefore = claimed.triesBefore;
    this.checkpointsBefore = structuredClone(claimed.record.checkpoints);
    this.#meter = new SessionMeter(claimed.record, claimed.usedAt);
    this.#work = new Stopwatch(claimed.record.work_seconds);
    const interrupt = () => this.#abort.abort(new Interrupted('the worker is stopping'));
    if (interruption.aborted) interrupt();
    else interruption.addEventListener('abort', interrupt, { once: true, signal: this.#abort.signal });
    if (context.callLimitMs !== undefined) {
      const stop = () => this.#abort.abort(new TimeIsUp('this call has lasted as long as it may'));
      this.#limit = setTimeout(stop, context.callLimitMs);
    }
    this.#ticker = setInterval(
      () => void this.#tick(),
      Math.min(context.timing.progressMs, context.timing.renewMs),
    );
  }

  get record(): Readonly<JobRecord> {
    return this.#record;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /**
   * Applies `change` to the newest version of the record and stores it. May call `change` more than once.
   * @throws {LeaseLost} and aborts the session, when the job belongs to somebody else by now
   */
  update(change: (record: JobRecord) => void): Promise<void> {
    const result = this.#updates.then(() => this.#write(change));
    this.#updates = result.catch(() => {});
    return result;
  }

  /**
   * Runs one stage: the record shows it, its progress and how long it took. Of several that run at the same time, the
   * record shows as its stage the one that comes first in a job of those that do not wait.
   */
  async stage<T>(name: StageName, work: (report: Report, waitFor: WaitFor) => Promise<T>): Promise<T> {
    this.#abort.signal.throwIfAborted();
    const before = this.#record.stages.find((stage) => stage.name === name);
    const running: RunningStage = {
      name,
      watch: new Stopwatch(before?.seconds ?? 0),
      fraction: before?.fraction ?? 0,
      progress: before?.progress,
    };
    this.#running.add(running);
    this.#goOn(running);
    let status: 'done' | 'failed' = 'failed';
    try {
      await this.update((record) => {
        stageState(record, name).status = 'running';
      });
      const report: Report = (fraction, progress) => {
        running.fraction = Math.max(running.fraction, Math.min(1, fraction));
        running.progress = progress ?? running.progress;
        this.#isProgressWritten = false;
      };
      const result = await work(report, (other) => this.#outsideOf(running, other));
      status = 'done';
      return result;
    } finally {
      this.#pause(running);
      this.#running.delete(running);
      if (!this.#abort.signal.aborted) {
        await this.update((record) => {
          record.stage = name;
          const finished = stageState(record, name);
          finished.status = status;
          finished.seconds = toTheMillisecond(running.watch.seconds);
          finished.fraction = status === 'done' ? 1 : running.fraction;
          finished.progress = running.progress;
        });
      }
    }
  }

  /** Stops renewing. What was written last stays as it is. */
  async end(): Promise<void> {
    clearInterval(this.#ticker);
    clearTimeout(this.#limit);
    await this.#updates;
    this.#meter.end(this.#record);
    // Frees the listener on the interruption; nothing listens to the session any more.
    this.#abort.abort(new Interrupted('the session is over'));
  }

  async #write(change: (record: JobRecord) => void): Promise<void> {
    for (;;) {
      const next = structuredClone(this.#record);
      this.#meter.put(next);
      change(next);
      this.#putProgress(next);
      try {
        this.#generation = await this.#context.records.replace(jobKey(this.job), next, this.#generation, {
          label: next.status,
        });
        this.#record = next;
        this.#lastWriteMs = performance.now();
        return;
      } catch (error) {
        if (!(error instanceof RecordConflict)) throw error;
        await this.#readAgain();
      }
    }
  }

  /** Takes over what others wrote meanwhile: a cancellation, or what is known of the run that this process is. */
  async #readAgain(): Promise<void> {
    const stored = await this.#context.records.read(jobKey(this.job));
    if (stored === undefined) throw this.#lose('the job was deleted');
    const record = JobRecord.parse(stored.value);
    if (record.lease?.epoch !== this.epoch || isSettled(record.status)) {
      throw this.#lose('another worker has the job');
    }
    this.#record = record;
    this.#generation = stored.generation;
    if (record.cancel_requested) this.#abort.abort(new JobCanceled('the job was canceled'));
  }

  #lose(why: string): LeaseLost {
    const lost = new LeaseLost(why);
    this.#abort.abort(lost);
    return lost;
  }

  /** Looks for a cancellation, writes progress that has changed, renews the lease when it is time. */
  async #tick(): Promise<void> {
    if (this.#isTicking || this.#abort.signal.aborted) return;
    this.#isTicking = true;
    try {
      const isDue = performance.now() - this.#lastWriteMs >= this.#context.timing.renewMs;
      if (isDue || !this.#isProgressWritten) await this.update(() => {});
      else await this.#look();
    } catch (error) {
      if (error instanceof LeaseLost) return;
      this.#context.log.warn(
        { err: error, job: this.job.id },
        'the record could not be written; trying again',
      );
      if (performance.now() - this.#lastWriteMs > this.#context.timing.leaseMs) {
        this.#lose('the lease could not be renewed in time');
      }
    } finally {
      this.#isTicking = false;
    }
  }

  async #look(): Promise<void> {
    const look = this.#updates.then(async () => {
      const stored = await this.#context.records.read(jobKey(this.job));
      if (stored?.generation !== this.#generation) await this.#readAgain();
    });
    this.#updates = look.catch(() => {});
    await look;
  }

  #putProgress(record: JobRecord): void {
    for (const running of this.#running) {
      const state = stageState(record, running.name);
      state.seconds = toTheMillisecond(running.watch.seconds);
      state.fraction = running.fraction;
      state.progress = running.progress;
    }
    record.stage = this.#shownStage() ?? record.stage;
    record.work_seconds = toTheMillisecond(this.#work.seconds);
    this.#isProgressWritten = true;
  }

  #shownStage(): StageName | undefined {
    const running = [...this.#running];
    const working = running.filter(({ watch }) => watch.isRunning);
    const shown = working.length > 0 ? working : running;
    return STAGES.find((stage) => shown.some(({ name }) => name === stage));
  }

  async #outsideOf<T>(running: RunningStage, other: Promise<T>): Promise<T> {
    this.#pause(running);
    try {
      return await other;
    } finally {
      this.#goOn(running);
    }
  }

  #goOn(running: RunningStage): void {
    running.watch.start();
    this.#work.start();
    this.#isProgressWritten = false;
  }

  #pause(running: RunningStage): void {
    running.watch.stop();
    this.#work.stop();
    this.#isProgressWritten = false;
  }
}

function stageState(record: JobRecord, name: StageName): StageState {
  let state = record.stages.find((stage) => stage.name === name);
  if (state === undefined) {
    state = { name, status: 'running', seconds: 0, fraction: 0 };
    record.stages.push(state);
    record.stages.sort((a, b) => STAGES.indexOf(a.name) - STAGES.indexOf(b.name));
  }
  return state;
}
