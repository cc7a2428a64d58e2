import type { Logger } from '../log.ts';
import { instanceKey, type JobRef } from '../objects.ts';
import type { Queue } from '../queue/queue.ts';
import { RecordConflict, type Records } from '../records/records.ts';
import { attributeCostsTask } from '../tasks/task.ts';
import { toTheMillisecond } from '../to-the-millisecond.ts';
import { within } from '../within.ts';
import { BEAT_MS, Heartbeat, type InstanceJob } from './instances.ts';
import type { InstanceTurn, WorkingInstance } from './session-meter.ts';

/** Of an instance that never ends, so much is shared out at a time, and no record grows beyond it. */
const WINDOW_MS = 24 * 3_600_000;
const WINDOW_JOBS = 500;

export interface InstanceHeartbeatOptions {
  records: Records;
  queue: Queue;
  log: Logger;
  backend: string;
  /** Names the process. */
  id: string;
  trigger: Heartbeat['trigger'];
  /** After how long somebody looks whether it has ended, again and again. */
  attributeEveryMs: number;
  beatMs?: number;
  windowMs?: number;
  windowJobs?: number;
}

/** A job that has the instance: `entry` has what it used of this window before `sinceMs`. */
interface Running {
  entry: InstanceJob;
  busyBefore: number;
  sinceMs: number;
  startedMs: number;
  /** Part of what it used is in another window. */
  isSplit: boolean;
}

/** A record of its own: the whole life of an instance, or a part of it. */
interface Window {
  id: string;
  heartbeat: Heartbeat;
  generation: string | undefined;
  hasTask: boolean;
  /** As the store has it. */
  saved: Heartbeat | undefined;
}

/**
 * Keeps the heartbeat of this process: written at its start, when a job begins or ends, every minute, and at its end.
 * All of it happens beside the work: a write that fails is made up for by the next.
 */
export class InstanceHeartbeat implements WorkingInstance {
  readonly #options: Required<InstanceHeartbeatOptions>;
  readonly #running = new Set<Running>();
  /** The last is the present one. Those before have ended, and wait to be written. */
  readonly #windows: Window[];
  #number = 1;
  #hasBegun = false;
  #readyMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #saving: Promise<void> | undefined;
  #isDirty = false;

  constructor(options: InstanceHeartbeatOptions) {
    this.#options = { beatMs: BEAT_MS, windowMs: WINDOW_MS, windowJobs: WINDOW_JOBS, ...options };
    this.#windows = [this.#window(performance.timeOrigin)];
  }

  get backend(): string {
    return this.#options.backend;
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.#rollOver();
      void this.#save();
    }, this.#options.beatMs).unref();
    void this.#save();
  }

  /** It has its models: whoever comes from now on has not waited for its start. */
  ready(): void {
    this.#readyMs ??= now();
  }

  begin(job: JobRef, from: { queuedAtMs: number; audioSeconds: number }): InstanceTurn {
    this.#rollOver();
    const nowMs = now();
    const coldStartSeconds = this.#hasBegun ? 0 : this.#coldStartMs(nowMs, from.queuedAtMs) / 1_000;
    this.#hasBegun = true;
    const { id, heartbeat } = this.#present;
    const entry = entryOf(heartbeat, job);
    entry.audio_seconds = from.audioSeconds;
    const running: Running = {
      entry,
      busyBefore: entry.busy_seconds,
      sinceMs: nowMs,
      startedMs: nowMs,
      isSplit: false,
    };
    this.#running.add(running);
    heartbeat.busy_since ??= iso(nowMs);
    heartbeat.idle_since = null;
    void this.#save();
    const end = (isWhole = false) => this.#end(running, isWhole);
    return { id, coldStartSeconds, end };
  }

  /** The last sign of life, `timeoutMs` at most. */
  async stop(timeoutMs: number): Promise<void> {
    clearInterval(this.#timer);
    this.#present.heartbeat.ended_at = iso(now());
    await within(this.#save(), timeoutMs);
  }

  get #present(): Window {
    return this.#windows.at(-1) as Window;
  }

  /**
   * What of its start the job has waited for: all of it where it was started for this job, and none where it had been
   * there before the job was, or had its models. A job may have been queued for long before it comes here.
   */
  #coldStartMs(nowMs: number, queuedAtMs: number): number {
    const endMs = Math.min(nowMs, this.#readyMs ?? nowMs);
    const sinceMs = this.#options.trigger === 'once' ? 0 : queuedAtMs;
    return Math.max(0, endMs - Math.max(performance.timeOrigin, sinceMs));
  }

  #end(running: Running, isWhole: boolean): void {
    if (!this.#running.delete(running)) return;
    const nowMs = now();
    settle(running, nowMs);
    running.entry.is_whole = isWhole && !running.isSplit;
    const { heartbeat } = this.#present;
    if (this.#running.size === 0) {
      heartbeat.busy_since = null;
      heartbeat.idle_since = iso(nowMs);
    }
    void this.#save();
  }

  /** Between two jobs, so that each is in one window for each time that it was begun. */
  #rollOver(): void {
    const { heartbeat } = this.#present;
    const ageMs = now() - Date.parse(heartbeat.started_at);
    const isFull = ageMs >= this.#options.windowMs || heartbeat.jobs.length >= this.#options.windowJobs;
    if (!isFull || this.#running.size > 0 || heartbeat.ended_at !== null) return;
    const nowMs = now();
    heartbeat.ended_at = iso(nowMs);
    this.#number += 1;
    this.#windows.push(this.#window(nowMs));
  }

  /** Somebody took us for dead, and has shared out what we had used until our last sign: the rest is a new window. */
  #rise(dead: Window): void {
    const { heartbeat, saved } = dead;
    const nowMs = now();
    for (const running of this.#running) settle(running, nowMs);
    this.#number += 1;
    const risen = this.#window(saved === undefined ? nowMs : Date.parse(saved.beat_at));
    risen.heartbeat.busy_since = heartbeat.busy_since;
    risen.heartbeat.idle_since = heartbeat.idle_since;
    risen.heartbeat.ended_at = heartbeat.ended_at;
    for (const job of heartbeat.jobs) {
      const before = saved?.jobs.find(({ owner, id }) => owner === job.owner && id === job.id);
      const busySeconds = toTheMillisecond(job.busy_seconds - (before?.busy_seconds ?? 0));
      const running = [...this.#running].filter(({ entry }) => entry === job);
      if (busySeconds <= 0 && running.length === 0) continue;
      const entry = { ...job, busy_seconds: Math.max(0, busySeconds), is_whole: false };
      risen.heartbeat.jobs.push(entry);
      for (const one of running) Object.assign(one, { entry, busyBefore: entry.busy_seconds, isSplit: true });
    }
    this.#windows.splice(this.#windows.indexOf(dead), 1, risen);
  }

  #window(startedMs: number): Window {
    const { id, backend, trigger } = this.#options;
    const startedAt = iso(startedMs);
    return {
      id: this.#number === 1 ? id : `${id}-w${this.#number}`,
      generation: undefined,
      hasTask: false,
      saved: undefined,
      heartbeat: {
        backend,
        trigger,
        started_at: startedAt,
        beat_at: startedAt,
        busy_since: null,
        idle_since: startedAt,
        ended_at: null,
        is_continuation: this.#number > 1,
        jobs: [],
      },
    };
  }

  /** One write at a time; what changes meanwhile is in the next. */
  #save(): Promise<void> {
    this.#isDirty = true;
    this.#saving ??= this.#saveWhileDirty().finally(() => {
      this.#saving = undefined;
    });
    return this.#saving;
  }

  async #saveWhileDirty(): Promise<void> {
    while (this.#isDirty) {
      this.#isDirty = false;
      try {
        for (let window = this.#windows[0]; window !== undefined; window = this.#windows[0]) {
          if (!(await this.#put(window))) continue;
          if (window === this.#present) break;
          this.#windows.shift();
        }
      } catch (error) {
        const { log, backend } = this.#options;
        log.warn({ err: error, backend }, 'the heartbeat could not be written; the next one makes up for it');
      }
    }
  }

  /** @returns false when it was not the newest version that was replaced: then it is to be tried again */
  async #put(window: Window): Promise<boolean> {
    const { records, queue, backend, attributeEveryMs } = this.#options;
    const key = instanceKey({ backend, id: window.id });
    if (!window.hasTask) {
      // First the task: it finds nothing if we die now, while a heartbeat without one would stay for ever.
      const dueMs = Date.now() + attributeEveryMs;
      await queue.enqueue(attributeCostsTask({ backend, id: window.id }, dueMs), {
        delayMs: attributeEveryMs,
      });
      window.hasTask = true;
    }
    const nowMs = now();
    for (const running of this.#running) settle(running, nowMs);
    const { heartbeat } = window;
    heartbeat.beat_at = heartbeat.ended_at ?? iso(nowMs);
    const value = structuredClone(heartbeat);
    try {
      window.generation =
        window.generation === undefined
          ? await records.create(key, value)
          : await records.replace(key, value, window.generation);
      window.saved = value;
      return true;
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
      const stored = await records.read(key);
      const theirs = Heartbeat.safeParse(stored?.value).data;
      // A write of ours whose answer was lost, most likely.
      const isOurs = theirs !== undefined && [null, value.ended_at].includes(theirs.ended_at);
      if (stored !== undefined && isOurs) window.generation = stored.generation;
      else this.#rise(window);
      return false;
    }
  }
}

function entryOf({ jobs }: Heartbeat, { owner, id }: JobRef): InstanceJob {
  let entry = jobs.find((one) => one.owner === owner && one.id === id);
  if (entry === undefined) {
    entry = { owner, id, busy_seconds: 0, audio_seconds: 0, is_whole: false };
    jobs.push(entry);
  }
  return entry;
}

/** Brings its seconds up to now. */
function settle(running: Running, nowMs: number): void {
  running.entry.busy_seconds = toTheMillisecond(running.busyBefore + (nowMs - running.sinceMs) / 1_000);
  running.busyBefore = running.entry.busy_seconds;
  running.sinceMs = nowMs;
}

/** By a clock that only goes forward. */
function now(): number {
  return performance.timeOrigin + performance.now();
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
