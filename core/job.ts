import { z } from 'zod';
import { PartialBlob } from './blobs/blobs.ts';
import { JOB_ID, OWNER } from './objects.ts';
import type { TranscriptionOptions } from './options.ts';

export const JOB_STATUSES = ['queued', 'processing', 'completed', 'failed', 'canceled'] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

/** In the order in which a job passes through them. */
export const STAGES = [
  'fetch',
  'decode',
  'detect-speech',
  'transcribe',
  'align',
  'diarize',
  'write',
] as const;
export type StageName = (typeof STAGES)[number];

/** How far a stage is, in what it counts by; `total` is null while nobody knows it. */
export const StageProgress = z.object({
  done: z.number(),
  total: z.number().nullable(),
  unit: z.enum(['bytes', 'seconds']),
});
export type StageProgress = z.infer<typeof StageProgress>;

const StageState = z.object({
  name: z.enum(STAGES),
  status: z.enum(['running', 'done', 'failed']),
  /** Work time over all attempts. */
  seconds: z.number(),
  fraction: z.number().min(0).max(1),
  progress: StageProgress.optional(),
});
export type StageState = z.infer<typeof StageState>;

const ProblemRecord = z.looseObject({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  detail: z.string(),
});

/** What went wrong without failing the job. `retry` on the job runs a stage that failed again. */
export const Warning = z.object({
  code: z.enum([
    'media-damaged',
    'no-speech',
    'words-missing',
    'speakers-not-matched',
    'alignment-failed',
    'diarization-failed',
    'save-failed',
  ]),
  message: z.string(),
});
export type Warning = z.infer<typeof Warning>;

/** Pieces 0 to `parts` - 1 that the attempt with `epoch` stored of one stage. */
const CheckpointRun = z.object({ epoch: z.number().int(), parts: z.number().int() });
export type CheckpointRun = z.infer<typeof CheckpointRun>;

const seconds = z.number().nullable();

/**
 * Where the time of a cold start went, as far as this job met one. Parts overlap; docs/cold-start.md draws them.
 * null: it did not happen for this job, or nobody can tell.
 */
export const ColdStart = z.object({
  /** `warm`: the models were there before the job was waiting for them, or an earlier job had had the wait. */
  instance: z.enum(['cold', 'warm']),
  /** From the queue to the start of the process: the wait for an instance, which no platform tells from its start. */
  queue_to_process_seconds: seconds,
  /** From the start of the process until it answers that it lives and takes tasks, which wait for the rest. */
  listening_seconds: seconds,
  /** From the start of the process to that of the sidecar. What follows is one after the other, to `ready`. */
  spawn_seconds: seconds,
  python_seconds: seconds,
  imports_seconds: seconds,
  device_seconds: seconds,
  model_seconds: seconds,
  /** From the start of the process (of a sidecar that had to be started again: from that) until it was ready. */
  ready_seconds: seconds,
  /** What commands waited for, beyond `ready`, because they were the first to need it. Also on a warm instance. */
  speech_seconds: seconds,
  recognition_seconds: seconds,
  alignment_seconds: seconds,
  diarization_seconds: seconds,
  /** To fetch and decode the audio; and as much of that as went on while the models were loading. */
  audio_seconds: seconds,
  overlap_seconds: seconds,
});
export type ColdStart = z.infer<typeof ColdStart>;

const time = z.iso.datetime();

const PassedOver = z.object({
  backend: z.string(),
  /** What follows its name in a sentence. */
  because: z.string(),
  /** It may take the job later. */
  is_passing: z.boolean().default(false),
});
export type PassedOver = z.infer<typeof PassedOver>;

/** One execution of a Cloud Run job, or one Vertex AI custom job. */
export const Run = z.object({
  backend: z.string(),
  /** The execution carries it, and is found by it. */
  id: z.string(),
  part: z.int(),
  /** `unclear`: it may have been started or not, because the answer was lost. */
  state: z.enum(['starting', 'unclear', 'started']),
  /** Its name, once it is known. */
  execution: z.string().nullable(),
  started_at: time,
});
export type Run = z.infer<typeof Run>;

/** What was expected of one backend when the choice was made. */
export const RoutingEstimate = z.object({
  backend: z.string(),
  /** Of an instance that is used by several jobs, this one's part of its start and its idle time is in it. */
  expected_usd: z.number(),
  begins_in_seconds: z.number(),
  done_in_seconds: z.number(),
  /** Something that is there and has no work, is started for the job, or has other work first. */
  meets: z.enum(['idle', 'start', 'queue']),
  /** How many jobs are expected to use that instance, this one with them; null where it is nobody else's. */
  shared_by: z.number().nullable(),
});

const amount = z.number().min(0).default(0);

/** What one instance did for a job: one that is billed from its start to its end, whatever it does. */
const InstanceUsage = z.object({
  id: z.string(),
  busy_seconds: amount,
  cold_start_seconds: amount,
  /** Its bill shared among its jobs; null while that is not known, and for instances that do one job alone. */
  attributed_usd: z.number().nullable().default(null),
});
export type InstanceUsage = z.infer<typeof InstanceUsage>;

/** What was used for a job at one backend, over all its tries; that of ingest is `cpu-service`. */
const Usage = z.object({
  backend: z.string(),
  /** From each claim to its end, the wait for models included. */
  busy_seconds: amount,
  /** From the start of an instance to the claim of the job that it was started for. */
  cold_start_seconds: amount,
  /** Of the busy ones, those on an instance with a GPU. */
  gpu_seconds: amount,
  instances: z.array(InstanceUsage).default([]),
  /** The API's model that was asked last. The job itself may have gone on with another engine. */
  model: z.string().optional(),
  /** Audio that an API says it has taken money for. */
  api_audio_seconds: amount,
  /** Audio that was sent to it and whose answer was lost: it may have been paid for or not. */
  unconfirmed_audio_seconds: amount,
});
export type Usage = z.infer<typeof Usage>;

/** One thing that a job was charged for. */
const CostPart = z.object({
  item: z.enum(['instance', 'ingest', 'calls', 'audio', 'operations']),
  /** Where it was used; of operations null. */
  backend: z.string().nullable(),
  quantity: z.number(),
  unit: z.enum(['second', 'operation']),
  usd: z.number(),
});
export type CostPart = z.infer<typeof CostPart>;

/** What a job has cost, over all its tries. docs/costs.md says what is in it. */
export const Cost = z.object({
  /** What it added: without the time in which an instance waited for another job, or was there anyway. */
  marginal_usd: z.number(),
  /** With its share of all that its instances cost; null until that is known. */
  attributed_usd: z.number().nullable(),
  gpu_seconds: z.number(),
  /** What it may have cost besides: answers were lost that may have been paid for. */
  unconfirmed_usd: z.number(),
  /** What is kept of it costs so much, as long as it is kept. */
  storage_usd_per_month: z.number(),
  /** By which prices, where, and of when. */
  basis: z.string(),
  parts: z.array(CostPart),
});
export type Cost = z.infer<typeof Cost>;

/** What turns audio into a transcript. */
export const ENGINES = ['whisperx', 'voxtral'] as const;
export type Engine = (typeof ENGINES)[number];

/**
 * Everything that is known of a job, in one object that changes only by compare-and-set.
 * Blobs count only when the record names them: whatever a worker wrote after it lost its lease is invisible.
 */
export const JobRecord = z.object({
  schema: z.literal(1),
  id: z.string().regex(JOB_ID),
  owner: z.string().regex(OWNER),
  status: z.enum(JOB_STATUSES),
  stage: z.enum(STAGES).nullable(),
  stages: z.array(StageState),
  created_at: time,
  /** When it was last asked for: at first, or by a retry. Its deadline counts from here. */
  requested_at: time.nullable().default(null),
  /** When ingest first claimed it. */
  started_at: time.nullable(),
  /** When it was last put on the queue of a backend: the wait for an instance counts from here. */
  queued_at: time,
  completed_at: time.nullable(),
  source: z.object({
    type: z.enum(['upload', 'url', 'gcs']),
    /** The id of the upload, the link, or the gs:// address; null for a file that came with the request. */
    address: z.string().nullable().default(null),
    filename: z.string().nullable(),
    content_type: z.string(),
    /** null until the link or object has been fetched. */
    bytes: z.number().int().nullable(),
    /** Of a file that came with the request. What else is the same, its address says. */
    sha256: z.string().nullable(),
  }),
  duration_seconds: z.number().nullable(),
  options: z.custom<TranscriptionOptions>((value) => typeof value === 'object' && value !== null),
  metadata: z.record(z.string(), z.string()),
  idempotency_hash: z.string().nullable(),
  backend: z.string(),
  routing: z.object({
    chosen: z.string(),
    /** Which the job was given: that it asked for, unless that was `auto` or it fell back. */
    tier: z.enum(['premium', 'standard']).optional(),
    because: z.string(),
    alternatives: z.array(z.string()),
    estimates: z.array(RoutingEstimate).optional(),
  }),
  language: z.object({ code: z.string(), probability: z.number().nullable() }).nullable(),
  model: z.string().nullable(),
  /** Whose the checkpoints are; null before any work on the audio. */
  engine: z.enum(ENGINES).nullable().default(null),
  usage: z.array(Usage).default([]),
  /** Written when it is settled; `usage` has what has been added since. */
  cost: Cost.nullable().default(null),
  /** What it had cost when its user last had it tried again: the rest belongs to the day of that. */
  cost_before: Cost.pick({ marginal_usd: true, attributed_usd: true }).default({
    marginal_usd: 0,
    attributed_usd: null,
  }),
  /** Time in which at least one stage was worked on, over all attempts: less than the stages' sum where they overlap. */
  work_seconds: amount,
  /** Tries per task type since the job was created or last retried by its user. */
  tries: z.object({
    ingest: z.object({ attempt: z.number().int(), part: z.number().int() }),
    transcribe: z.object({ attempt: z.number().int(), part: z.number().int() }),
  }),
  /** Attempts made before the user's last retry: task names go on counting, the limit does not. */
  attempts_before: z.object({ ingest: z.number().int(), transcribe: z.number().int() }),
  /** Continuations in a row that stored nothing new. */
  fruitless_calls: z.int().default(0),
  /** Stages that could not be finished in the calls they had: skipped with a warning. */
  given_up: z.array(z.enum(['align', 'diarize'])).default([]),
  /** Raised by every claim. */
  epoch: z.number().int(),
  lease: z.object({ holder: z.string(), epoch: z.number().int() }).nullable(),
  /** The task that will carry the job on; null once it is settled. */
  task: z.object({ queue: z.string(), name: z.string() }).nullable(),
  /**
   * What was started to do the job, where its backend is started for each: written down before it is started, and
   * kept until it has settled the job or is known to have ended. Present in a settled job, it is still to be stopped.
   */
  run: Run.nullable().default(null),
  /** Backends that had the job and did not begin with it, since the last claim. */
  passed_over: z.array(PassedOver).default([]),
  /** How often it was handed on without an attempt being counted: such tasks need names of their own. */
  handovers: z.int().default(0),
  cancel_requested: z.boolean(),
  warnings: z.array(Warning),
  problem: ProblemRecord.nullable(),
  metrics: z.object({
    queue_seconds: z.number().nullable(),
    /** What the job itself waited for the models. */
    cold_start_seconds: z.number().nullable(),
    cold_start: ColdStart.nullable().default(null),
    processing_seconds: z.number().nullable(),
    realtime_factor: z.number().nullable(),
  }),
  objects: z.object({
    /** null until it has been fetched, and once nothing can use it any more: the job failed for good. */
    media: z.string().nullable(),
    /** One, or one for each channel. */
    audio: z.preprocess(
      (value) => (typeof value === 'string' ? [value] : value),
      z.array(z.string()).nullable(),
    ),
    playback: z.string().nullable(),
    transcript: z.string().nullable(),
  }),
  checkpoints: z.object({
    /** What has arrived of a link so far. `validator`: of the content that it is part of. */
    fetch: z.object({ partial: PartialBlob, validator: z.string().nullable() }).nullable().default(null),
    speech: z.string().nullable(),
    transcribe: z.array(CheckpointRun),
    align: z.array(CheckpointRun),
    diarize: z.string().nullable(),
  }),
});
export type JobRecord = z.infer<typeof JobRecord>;

export function isSettled(status: JobStatus): boolean {
  return status === 'completed' || status === 'failed' || status === 'canceled';
}
