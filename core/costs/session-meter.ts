import type { InstanceUsage, JobRecord } from '../job.ts';
import type { JobRef } from '../objects.ts';
import { hasWork } from '../tasks/has-work.ts';
import { toTheMillisecond } from '../to-the-millisecond.ts';
import { instanceUsageOf, usageOf } from './usage.ts';

/** The instance that a session works on, where that is billed from its start to its end. */
export interface WorkingInstance {
  readonly backend: string;
  begin(job: JobRef, from: { queuedAtMs: number; audioSeconds: number }): InstanceTurn;
}

/** The time for which a job has an instance. */
export interface InstanceTurn {
  /** Under which id the instance has it. */
  id: string;
  /** How long the instance had been starting for this job. */
  coldStartSeconds: number;
  /** @param isWhole whether the job was done from its beginning to its end in this time */
  end(isWhole?: boolean): void;
}

/** Measures what one session uses. It is put into every version of the record that the session writes, so a crash loses little. */
export class SessionMeter {
  readonly #backend: string;
  readonly #hasGpu: boolean;
  readonly #isFresh: boolean;
  readonly #turn: InstanceTurn | undefined;
  readonly #sinceMs = performance.now();
  /** Of earlier sessions. */
  readonly #before: { busy: number; cold: number; gpu: number; instance: InstanceUsage | undefined };

  constructor(
    claimed: JobRecord,
    {
      backend,
      hasGpu,
      instance,
    }: { backend: string; hasGpu: boolean; instance: WorkingInstance | undefined },
  ) {
    this.#backend = backend;
    this.#hasGpu = hasGpu;
    this.#isFresh = !hasWork(claimed);
    this.#turn = instance?.begin(
      { owner: claimed.owner, id: claimed.id },
      { queuedAtMs: Date.parse(claimed.queued_at), audioSeconds: claimed.duration_seconds ?? 0 },
    );
    const usage = claimed.usage.find((one) => one.backend === backend);
    this.#before = {
      busy: usage?.busy_seconds ?? 0,
      cold: usage?.cold_start_seconds ?? 0,
      gpu: usage?.gpu_seconds ?? 0,
      instance: structuredClone(usage?.instances.find(({ id }) => id === this.#turn?.id)),
    };
  }

  put(record: JobRecord): void {
    const busy = (performance.now() - this.#sinceMs) / 1_000;
    const cold = this.#turn?.coldStartSeconds ?? 0;
    const usage = usageOf(record, this.#backend);
    usage.busy_seconds = toTheMillisecond(this.#before.busy + busy);
    usage.cold_start_seconds = toTheMillisecond(this.#before.cold + cold);
    if (this.#hasGpu) usage.gpu_seconds = toTheMillisecond(this.#before.gpu + busy);
    if (this.#turn === undefined) return;
    const instance = instanceUsageOf(usage, this.#turn.id);
    instance.busy_seconds = toTheMillisecond((this.#before.instance?.busy_seconds ?? 0) + busy);
    instance.cold_start_seconds = toTheMillisecond((this.#before.instance?.cold_start_seconds ?? 0) + cold);
  }

  /** @param record as the session has left it */
  end({ status }: Readonly<JobRecord>): void {
    this.#turn?.end(this.#isFresh && status === 'completed');
  }
}
