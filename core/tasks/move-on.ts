import { costsByTheJob } from '../costs/backend-rate.ts';
import { isWithinSpendLimit } from '../costs/spend-limit.ts';
import type { JobRecord, PassedOver } from '../job.ts';
import { jobKey } from '../objects.ts';
import { ServiceError } from '../problem.ts';
import { chooseBackend, toRoute } from '../routing/choose-backend.ts';
import { noteChoice } from '../routing/note-choice.ts';
import { nextTask } from './next-task.ts';
import { taskRef } from './task.ts';
import type { WorkerContext } from './worker-context.ts';

/** Why a backend has not begun with a job that it had. */
export type Reason = Omit<PassedOver, 'backend'>;

/** So old may be what is known of the backends: all jobs that wait for one are looked at in the same minute. */
const STATE_AGE_MS = 10_000;
/** Long enough that room may have come free, short enough that it does not stay so for long. */
const START_OVER_MS = 60_000;

/**
 * Hands a job that nobody has claimed to the next backend that fits.
 * @returns false when there is none; then nothing is changed
 * @throws {RecordConflict} when somebody has claimed it meanwhile
 */
export async function moveOn(
  context: WorkerContext,
  record: JobRecord,
  generation: string,
  reason: Reason,
  { part }: { part?: number } = {},
): Promise<boolean> {
  const passedOver = [...record.passed_over, { backend: record.backend, ...reason }];
  const choice = await choose(context, record, passedOver);
  if (choice === undefined) return false;
  await handOver(context, record, generation, choice, {
    passedOver,
    part,
    because: reason.because,
    delayMs: 0,
  });
  return true;
}

/**
 * The same when all have been asked: after a while those are asked again that may take it later, from the first on.
 * @returns `stays` when that is the one that has it; then nothing is changed, and the caller's task is tried again
 */
async function startOver(
  context: WorkerContext,
  record: JobRecord,
  generation: string,
  reason: Reason,
  { part }: { part?: number } = {},
): Promise<'stays' | 'handed-over' | 'hopeless'> {
  const all = [...record.passed_over, { backend: record.backend, ...reason }];
  const passedOver = all.filter(({ is_passing }) => !is_passing);
  const choice = await choose(context, record, passedOver);
  if (choice === undefined) return 'hopeless';
  if (choice.backend === record.backend) return 'stays';
  const how = { passedOver, part, because: reason.because, delayMs: START_OVER_MS };
  await handOver(context, record, generation, choice, how);
  return 'handed-over';
}

/** The one, and if there is none the other. */
export async function passOn(
  ...[context, record, generation, reason, how]: Parameters<typeof moveOn>
): Promise<'stays' | 'handed-over' | 'hopeless'> {
  if (await moveOn(context, record, generation, reason, how)) return 'handed-over';
  return startOver(context, record, generation, reason, how);
}

/**
 * Whether a job had better wait for its backend, which has as many as it may have: of the tier `auto` it was sent into
 * that line because the wait costs less, and that is so until its deadline comes near.
 */
export async function isWorthTheWait(context: WorkerContext, record: JobRecord): Promise<boolean> {
  if (record.options.tier !== 'auto') return false;
  const choice = await choose(context, record, record.passed_over);
  return choice?.backend === record.backend;
}

async function handOver(
  context: WorkerContext,
  record: JobRecord,
  generation: string,
  choice: Choice,
  {
    passedOver,
    part = 1,
    because,
    delayMs,
  }: { passedOver: PassedOver[]; part: number | undefined; because: string; delayMs: number },
): Promise<void> {
  const next: JobRecord = {
    ...structuredClone(record),
    ...choice,
    passed_over: passedOver,
    handovers: record.handovers + 1,
    lease: null,
    run: null,
  };
  const isContinuation = part > 1 && part === record.tries.transcribe.part + 1;
  const task = nextTask(context.backends, next, { isContinuation });
  next.task = taskRef(task);
  await context.records.replace(jobKey(record), next, generation, { label: next.status });
  await context.queue.enqueue(task, { delayMs });
  await noteChoice(context, next);
  context.log.warn(
    { job: record.id, from: record.backend, to: next.backend, because },
    'the job goes to another backend',
  );
}

type Choice = Pick<JobRecord, 'backend' | 'routing' | 'model'>;

async function choose(
  context: WorkerContext,
  record: JobRecord,
  passedOver: PassedOver[],
): Promise<Choice | undefined> {
  const { backends, now = Date.now } = context;
  const had = backends.find(({ name }) => name === record.backend);
  // What was let through goes on; what cost nothing until now is asked about like a new one.
  const isFree = had !== undefined && !costsByTheJob(had);
  const refused = [...passedOver];
  for (;;) {
    try {
      const { routing, model } = await chooseBackend(
        { ...context, maxAgeMs: STATE_AGE_MS },
        { ...toRoute(record), passedOver: refused },
      );
      const { chosen } = routing;
      if (!isFree || (await isWithinSpendLimit(context, chosen, now()))) {
        return { routing, backend: chosen, model: model ?? record.model };
      }
      const because = 'would cost something, and the jobs of today have cost what they may';
      refused.push({ backend: chosen, because, is_passing: true });
    } catch (error) {
      if (error instanceof ServiceError) return undefined;
      throw error;
    }
  }
}
