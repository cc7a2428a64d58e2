import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Backend } from '../../core/backends.ts';
import { readJson } from '../../core/blobs/blobs.ts';
import { isSettled, JobRecord } from '../../core/job.ts';
import { createLog } from '../../core/log.ts';
import { mulberry32 } from '../../core/mulberry32.ts';
import { ACTIVE_PREFIX, activeKey, jobPrefix, transcriptKey, workPrefix } from '../../core/objects.ts';
import { UPLOAD_SILENCE_MS } from '../../core/tasks/mark-active.ts';
import { canRetry } from '../../core/tasks/settle-job.ts';
import { CLOUD_TIMING } from '../../core/tasks/worker-context.ts';
import { Transcript } from '../../core/transcript.ts';
import { reconcile } from '../../cpu-service/reconcile.ts';
import { agedRecords } from '../support/aged-records.ts';
import { type Cloud, GPU_ORIGIN, OWNER, type ServiceName, startCloud } from '../support/cloud.ts';
import { fakeSidecarCommand } from '../support/fake-sidecar.ts';
import type { Service } from '../support/service.ts';
import { submit } from '../support/submit.ts';
import { waitFor } from '../support/wait-for.ts';

export interface ChaosOptions {
  seed: number;
  /** Things that go wrong on purpose, besides those that happen by rates. */
  events: number;
  jobs: number;
  recording: string;
  log?: (line: string) => void;
}

export interface ChaosReport {
  seed: number;
  events: Record<string, number>;
  accepted: number;
  refused: number;
  statuses: Record<string, number>;
  dispatches: number;
  /** What must not be, one sentence each; none is what is wanted. */
  violations: string[];
}

const LEASE_SECONDS = 6;
/** Two at a time are started for a job each; the other jobs go to the service. */
const BACKENDS: Backend[] = [
  {
    name: 'gpu-job',
    kind: 'cloud-run-job',
    tier: 'premium',
    job: 'projects/test/locations/here/jobs/gpu-job',
    max_running: 2,
    claim_timeout_seconds: 15,
  },
  { name: 'cloud-run-service', kind: 'cloud-run-service', tier: 'premium', url: GPU_ORIGIN },
];
/** The call is given up, the lease runs out, reconcile makes a task, another worker takes it: then it comes back. */
const PAUSE_MS = 2 * LEASE_SECONDS * 1_000;
const EVENT_PAUSE_MS = 350;
/** From the last event until everything must have come to its end. */
const SETTLE_TIMEOUT_MS = 180_000;

/**
 * Submits jobs to the three services, each a process of its own with a clock of its own, while they are killed and
 * stopped, storage fails in every way it can, and the queue duplicates, delays, reorders and drops. Then everything
 * is left alone, and what must hold is checked.
 */
export async function runChaos({
  seed,
  events,
  jobs,
  recording,
  log = () => {},
}: ChaosOptions): Promise<ChaosReport> {
  const random = mulberry32(seed);
  // Of their own, so that the blows do not depend on when a submission is through.
  const pace = mulberry32(seed + 1);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const skew = () => String(Math.round((random() * 2 - 1) * 30_000));
  const worker = { TASK_LEASE_SECONDS: String(LEASE_SECONDS) };
  const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-chaos-'));
  const cloud = await startCloud({
    gpuInstances: 2,
    backends: BACKENDS,
    env: {
      'cpu-service': worker,
      'gpu-service': { ...worker, ...(await overlappingStages(folder)) },
    },
    skewedClocks: skew,
    tasks: {
      seed,
      // Calls are given up after five seconds instead of half an hour, whether the worker still works or not.
      scale: { deadline: 0.003 },
      faults: {
        rates: {
          'duplicate-dispatch': 0.1,
          'delay-dispatch': 0.1,
          'reorder-dispatch': 0.1,
          'time-out-dispatch': 0.05,
          'lose-answer': 0.05,
          'lose-create-reply': 0.05,
          'refuse-create': 0.05,
        },
        upToMs: 1_500,
      },
    },
  });
  const counts: Record<string, number> = {};
  const accepted = new Set<string>();
  let refused = 0;
  const stopMinutes = new AbortController();
  const minutes = passMinutes(cloud, stopMinutes.signal);
  try {
    const submissions = (async () => {
      for (let n = 0; n < jobs; n++) {
        const diarize = String(n % 2 === 0);
        await submit(cloud.client, recording, { chunk_size: '2', language: 'en', diarize }).then(
          ({ id }) => accepted.add(id),
          () => {
            refused += 1;
          },
        );
        await sleep(pace() * 200);
      }
    })();
    for (let n = 0; n < events; n++) {
      const event = await strike(cloud, pick, random);
      counts[event] = (counts[event] ?? 0) + 1;
      log(`${n + 1}/${events} ${event}`);
      await sleep(random() * 2 * EVENT_PAUSE_MS);
    }
    await submissions;
    cloud.storage.clearFaults();
    cloud.runs.clearFaults();
    cloud.tasks.faults.set({ rates: {} });
    await waitFor('every job to end', async () => (await unsettled(cloud)).length === 0, {
      timeoutMs: SETTLE_TIMEOUT_MS,
      intervalMs: 500,
    }).catch(() => {});
    const broken = await sweepBrokenUploads(cloud);
    if (broken > 0) counts['uploads that broke off'] = broken;
    await waitFor('the markers to go', async () => (await list(cloud, ACTIVE_PREFIX)).length === 0, {
      timeoutMs: 30_000,
      intervalMs: 500,
    }).catch(() => {});
    await waitFor('the runs to end', () => living(cloud).length === 0, { timeoutMs: 30_000 }).catch(() => {});
    const { statuses, violations } = await check(cloud, accepted);
    counts['runs that were started'] = cloud.runs.executions.length;
    const lost = cloud.log().filter(({ message }) => message === 'gave the job up').length;
    if (lost > 0) counts['workers that lost their lease'] = lost;
    for (const [fault, count] of Object.entries(cloud.tasks.faults.counts))
      if (count > 0) counts[`queue: ${fault}`] = count;
    return {
      seed,
      events: counts,
      accepted: accepted.size,
      refused,
      statuses,
      dispatches: cloud.tasks.attempts.length,
      violations,
    };
  } finally {
    stopMinutes.abort();
    await minutes;
    await cloud.stop();
    await rm(folder, { recursive: true });
  }
}

/** A GPU as far as our own code can tell, on which the stages of a job run at the same time. The fake needs no models. */
async function overlappingStages(folder: string): Promise<Record<string, string>> {
  const alignment = join(folder, 'alignment');
  await mkdir(join(alignment, 'en'), { recursive: true });
  await writeFile(join(alignment, 'en', 'config.json'), '{}');
  return {
    SIDECAR_COMMAND: JSON.stringify(fakeSidecarCommand('good', { batchDelayMs: 150 })),
    WHISPER_DEVICE: 'cuda',
    WHISPER_MODEL: 'tiny.en',
    ALIGNMENT_MODEL_DIR: alignment,
    DIARIZATION_MODEL: join(folder, 'diarization'),
  };
}

const STORAGE_FAULTS = [
  { kind: 'status', status: 503, times: 3 },
  { kind: 'status', status: 429, times: 3 },
  { kind: 'lose-reply', times: 1, operation: ['insert', 'put-session', 'delete'] },
  { kind: 'break', afterBytes: 1_000, operation: ['download', 'put-session'] },
  { kind: 'stall', operation: ['get', 'download', 'list'] },
  { kind: 'truncate', afterBytes: 500, operation: 'download' },
] as const;

const RUN_FAULTS = [
  { operation: 'start', kind: 'lose-reply' },
  { operation: 'start', kind: 'refuse', status: 503, message: 'The service is currently unavailable.' },
  { operation: 'start', kind: 'refuse', status: 429, message: 'Quota exceeded' },
  { operation: 'get', kind: 'refuse', status: 503, times: 3 },
  { operation: 'list', kind: 'refuse', status: 429, times: 3 },
  { operation: 'cancel', kind: 'lose-reply' },
] as const;

const living = ({ runs }: Cloud) =>
  runs.executions.filter(({ state }) => state === 'pending' || state === 'running');

/** One thing goes wrong with what is started for each job. @returns its name */
async function strikeRuns(cloud: Cloud, pick: <T>(list: readonly T[]) => T, dice: number): Promise<string> {
  if (dice < 0.5) {
    const fault = pick(RUN_FAULTS);
    cloud.runs.inject({ ...fault });
    return `runs: ${fault.operation} ${fault.kind}${'status' in fault ? ` ${fault.status}` : ''}`;
  }
  const victim = cloud.runProcesses.findLast(
    ({ process: { exitCode, signalCode } }) => exitCode === null && signalCode === null,
  );
  if (victim === undefined) return 'nothing: there is no run';
  const signal = dice < 0.8 ? 'SIGKILL' : 'SIGTERM';
  victim.process.kill(signal);
  return `${signal === 'SIGKILL' ? 'kill -9' : 'SIGTERM'} run`;
}

/** One thing goes wrong. @returns its name */
async function strike(
  cloud: Cloud,
  pick: <T>(list: readonly T[]) => T,
  random: () => number,
): Promise<string> {
  const dice = random();
  if (dice < 0.15) return strikeRuns(cloud, pick, dice / 0.15);
  if (dice < 0.5) {
    const fault = pick(STORAGE_FAULTS);
    cloud.storage.inject({ ...fault } as Parameters<typeof cloud.storage.inject>[0]);
    return `storage: ${fault.kind}${'status' in fault ? ` ${fault.status}` : ''}`;
  }
  const name = pick<ServiceName>(['api', 'cpu-service', 'gpu-service', 'gpu-service']);
  const victim = pick(cloud.instances(name).filter((service) => !paused.has(service)));
  if (victim === undefined) return `nothing: every ${name} is paused`;
  if (dice < 0.6 && name !== 'api') {
    pause(victim);
    return `a pause longer than its lease ${name}`;
  }
  const isKilled = dice < 0.88;
  await replace(cloud, name, victim, isKilled);
  return `${isKilled ? 'kill -9' : 'SIGTERM'} ${name}`;
}

/** Those that are to come back, and so are not killed meanwhile. */
const paused = new WeakSet<Service>();

/** Long enough that others take its jobs. When it comes back it still believes that they are its own. */
function pause(victim: Service): void {
  paused.add(victim);
  victim.process.kill('SIGSTOP');
  setTimeout(() => {
    victim.process.kill('SIGCONT');
    // It needs a moment to see what has happened.
    setTimeout(() => paused.delete(victim), 3_000);
  }, PAUSE_MS);
}

/** The platform starts another instance in the place of one that ended. */
async function replace(cloud: Cloud, name: ServiceName, victim: Service, isKilled: boolean): Promise<void> {
  cloud.forget(name, victim);
  if (isKilled) await victim.kill();
  else await victim.stop();
  await cloud.start(name);
}

/** Reconcile comes every two seconds here, where it would come every minute. */
async function passMinutes(cloud: Cloud, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await cloud.reconcile().catch(() => {});
    await sleep(2_000, undefined, { signal }).catch(() => {});
  }
}

async function list(cloud: Cloud, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of cloud.blobs.list(prefix)) keys.push(key);
  return keys;
}

async function allRecords(cloud: Cloud): Promise<JobRecord[]> {
  const records: JobRecord[] = [];
  for (let after = ''; ; ) {
    const page = await cloud.records.list({ prefix: jobPrefix(OWNER), after, limit: 100 });
    records.push(...page.records.map(({ value }) => JobRecord.parse(value)));
    after = page.records.at(-1)?.key ?? '';
    if (!page.hasMore) return records;
  }
}

/** What reconcile does with them ten minutes later. @returns how many there were */
async function sweepBrokenUploads(cloud: Cloud): Promise<number> {
  const records = await allRecords(cloud);
  const markers = await list(cloud, ACTIVE_PREFIX);
  const broken = markers.filter((key) => !records.some((record) => activeKey(record) === key));
  const { blobs, queue } = cloud;
  const later = agedRecords(cloud.records, 2 * UPLOAD_SILENCE_MS);
  const log = createLog('chaos', { level: 'error' });
  await reconcile(
    { blobs, records: later, queue, log, backends: [], holder: 'chaos', timing: CLOUD_TIMING },
    { type: 'reconcile' },
    new AbortController().signal,
  );
  return broken.length;
}

const unsettled = async (cloud: Cloud): Promise<JobRecord[]> =>
  (await allRecords(cloud)).filter(({ status }) => !isSettled(status));

async function check(
  cloud: Cloud,
  accepted: ReadonlySet<string>,
): Promise<Pick<ChaosReport, 'statuses' | 'violations'>> {
  const violations: string[] = [];
  const statuses: Record<string, number> = {};
  const records = await allRecords(cloud);
  const known = new Set(records.map(({ id }) => id));
  for (const id of accepted) if (!known.has(id)) violations.push(`${id} was accepted and is lost`);

  const transcripts = await list(cloud, 'transcripts/');
  const leftovers = await list(cloud, 'work/');
  let expected: string | undefined;
  for (const record of records) {
    statuses[record.status] = (statuses[record.status] ?? 0) + 1;
    const { id } = record;
    if (!isSettled(record.status)) violations.push(`${id} is still ${record.status} in ${record.stage}`);
    if (record.lease !== null) violations.push(`${id} has a lease left`);
    if (!canRetry(record) && leftovers.some((key) => key.startsWith(workPrefix(record)))) {
      violations.push(`${id} is ${record.status} and has checkpoints left`);
    }
    if (record.status !== 'completed') continue;
    const { transcript } = record.objects;
    // Written under the last epoch: by the only worker that had the lease when the job was settled.
    if (transcript !== transcriptKey(record, record.epoch))
      violations.push(`${id} names ${transcript} at epoch ${record.epoch}`);
    const { text, segments, ...of } = Transcript.parse(await readJson(cloud.blobs, transcript as string));
    expected ??= text;
    if (text !== expected || segments.length === 0) violations.push(`${id} has another text than the others`);
    // Words are those of the text, even if that was stored by another worker.
    if (segments.map((segment) => segment.text.trim()).join(' ') !== text.trim())
      violations.push(`${id} has other segments than text`);
    if (of.words_from !== 'alignment') violations.push(`${id} has words from ${of.words_from}`);
    if (record.options.diarize && of.speakers?.length !== 2) violations.push(`${id} has lost its speakers`);
  }
  for (const { name, state } of living(cloud)) violations.push(`the run ${name} is still ${state}`);
  // One visible transcript each; what a worker wrote after it lost its lease is named by no record.
  const named = new Set(records.map(({ objects }) => objects.transcript));
  const orphans = transcripts.filter((key) => !named.has(key));
  if (orphans.length > 0) statuses['transcripts that no record names'] = orphans.length;
  for (const key of await list(cloud, ACTIVE_PREFIX)) violations.push(`the marker ${key} is left`);
  return { statuses, violations };
}
