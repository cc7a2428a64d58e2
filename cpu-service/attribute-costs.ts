import { isDeepStrictEqual } from 'node:util';
import { attributeEveryMs, instanceBill, type Share } from '../core/costs/attribution.ts';
import { backendRate } from '../core/costs/backend-rate.ts';
import { Heartbeat, isAlive } from '../core/costs/instances.ts';
import { attributedUsd } from '../core/costs/job-cost.ts';
import { noteCost } from '../core/costs/note-cost.ts';
import { PRICES } from '../core/costs/prices.ts';
import { instanceUsageOf, usageOf } from '../core/costs/usage.ts';
import { isSettled, JobRecord } from '../core/job.ts';
import { type InstanceRef, instanceKey, jobKey } from '../core/objects.ts';
import { RecordConflict, type StoredRecord } from '../core/records/records.ts';
import type { Outcome } from '../core/tasks/outcome.ts';
import { attributeCostsTask, type TaskPayload } from '../core/tasks/task.ts';
import type { WorkerContext } from '../core/tasks/worker-context.ts';

const DONE: Outcome = { kind: 'done' };

/**
 * Shares what an instance has cost among the jobs that it did, once it has ended, and forgets it. Until then it comes
 * back. Each job's share stands in its record under the id of the instance: doing it again changes nothing.
 */
export async function attributeCosts(context: WorkerContext, payload: TaskPayload): Promise<Outcome> {
  const { instance, dueMs = 0 } = payload;
  if (instance === undefined) throw new TypeError('an attribute-costs task needs an instance');
  const { records, backends, log, prices = PRICES } = context;
  const key = instanceKey(instance);
  const stored = await records.read(key);
  if (stored === undefined) return DONE;
  const heartbeat = Heartbeat.parse(stored.value);
  if (isAlive({ ...heartbeat, ageMs: stored.ageMs }) || !(await isFrozen(context, stored, heartbeat))) {
    return lookAgain(context, instance, dueMs);
  }
  const backend = backends.find(({ name }) => name === instance.backend);
  const rate = backend === undefined ? undefined : backendRate(backend, prices);
  if (rate?.paid === 'shared' || rate?.paid === 'rent') {
    const { usd, shares } = instanceBill(heartbeat, rate.metering);
    for (const share of shares) await giveShare(context, instance, share);
    log.info({ ...instance, usd, jobs: shares.length }, 'shared out what an instance has cost');
  } else if (backend === undefined) {
    log.warn(instance, 'what an instance has cost is not known: its backend is no longer in BACKENDS');
  }
  await records.delete(key);
  return DONE;
}

/** One that was silent may have been cut off, and not dead: from now on it finds that it was taken for dead. */
async function isFrozen(
  { records }: WorkerContext,
  { key, generation }: StoredRecord,
  heartbeat: Heartbeat,
): Promise<boolean> {
  if (heartbeat.ended_at !== null) return true;
  try {
    heartbeat.ended_at = heartbeat.beat_at;
    await records.replace(key, heartbeat, generation);
    return true;
  } catch (error) {
    if (error instanceof RecordConflict) return false;
    throw error;
  }
}

async function lookAgain(context: WorkerContext, instance: InstanceRef, dueMs: number): Promise<Outcome> {
  const kind = context.backends.find(({ name }) => name === instance.backend)?.kind;
  const everyMs = attributeEveryMs(kind);
  const nowMs = Date.now();
  // Whatever is delivered twice goes on as one.
  const nextMs = dueMs + Math.max(1, Math.ceil((nowMs - dueMs) / everyMs)) * everyMs;
  await context.queue.enqueue(attributeCostsTask(instance, nextMs), { delayMs: nextMs - nowMs });
  return DONE;
}

/** The job may be running again, or have been done by several instances; one that was deleted has no cost any more. */
async function giveShare(context: WorkerContext, instance: InstanceRef, share: Share): Promise<void> {
  const { records } = context;
  for (;;) {
    const stored = await records.read(jobKey(share));
    if (stored === undefined) return;
    const record = JobRecord.parse(stored.value);
    instanceUsageOf(usageOf(record, instance.backend), instance.id).attributed_usd = share.usd;
    await giveUpOthers(context, record);
    if (isSettled(record.status) && record.cost !== null) {
      record.cost.attributed_usd = attributedUsd(record.cost.parts, record.usage);
    }
    try {
      if (!isDeepStrictEqual(record, JobRecord.parse(stored.value))) {
        await records.replace(stored.key, record, stored.generation, { label: record.status });
      }
    } catch (error) {
      if (!(error instanceof RecordConflict)) throw error;
      continue;
    }
    // Also when the share was there: then the try before this one may have died in between.
    const { status, cost } = record;
    if (isSettled(status) && cost !== null && cost.attributed_usd !== null)
      await noteCost(context, record, cost);
    return;
  }
}

/** Instances that died before they could write down that they had the job will never give it a share. */
async function giveUpOthers(context: WorkerContext, record: JobRecord): Promise<void> {
  if (!isSettled(record.status)) return;
  for (const { backend, instances } of record.usage) {
    for (const one of instances) {
      if (one.attributed_usd === null && !(await isToCome(context, record, { backend, id: one.id }))) {
        one.attributed_usd = 0;
      }
    }
  }
}

async function isToCome({ records }: WorkerContext, job: JobRecord, instance: InstanceRef): Promise<boolean> {
  const stored = await records.read(instanceKey(instance));
  const heartbeat = Heartbeat.safeParse(stored?.value).data;
  if (stored === undefined || heartbeat === undefined) return false;
  if (heartbeat.jobs.some(({ owner, id }) => owner === job.owner && id === job.id)) return true;
  return isAlive({ ...heartbeat, ageMs: stored.ageMs });
}
