import type { JobRecord } from '../job.ts';
import { type JobRef, mediaKey } from '../objects.ts';
import type { ParsedOptions } from '../options.ts';
import { CPU_QUEUE, jobTask } from './task.ts';

/** The record of a job whose media is stored, or can be fetched, and whose ingest is the next thing to do. */
export function newJobRecord(
  job: JobRef,
  submission: ParsedOptions & {
    source: JobRecord['source'];
    routing: JobRecord['routing'];
    /** null while the backend has not said what it can. */
    model: string | null;
    idempotencyHash: string | null;
    nowMs: number;
  },
): JobRecord {
  const now = new Date(submission.nowMs).toISOString();
  const { queue, name } = jobTask(CPU_QUEUE, job, 'ingest', 1);
  return {
    schema: 1,
    id: job.id,
    owner: job.owner,
    status: 'queued',
    stage: null,
    stages: [],
    created_at: now,
    requested_at: now,
    started_at: null,
    queued_at: now,
    completed_at: null,
    source: submission.source,
    duration_seconds: null,
    options: submission.options,
    metadata: submission.metadata,
    idempotency_hash: submission.idempotencyHash,
    backend: submission.routing.chosen,
    routing: submission.routing,
    language: null,
    model: submission.model,
    engine: null,
    usage: [],
    cost: null,
    tries: { ingest: { attempt: 0, part: 0 }, transcribe: { attempt: 0, part: 0 } },
    cost_before: { marginal_usd: 0, attributed_usd: null },
    attempts_before: { ingest: 0, transcribe: 0 },
    fruitless_calls: 0,
    work_seconds: 0,
    given_up: [],
    epoch: 0,
    lease: null,
    task: { queue, name },
    run: null,
    passed_over: [],
    handovers: 0,
    cancel_requested: false,
    warnings: [],
    problem: null,
    metrics: {
      queue_seconds: null,
      cold_start_seconds: null,
      cold_start: null,
      processing_seconds: null,
      realtime_factor: null,
    },
    objects: {
      media: submission.source.bytes === null ? null : mediaKey(job),
      audio: null,
      playback: null,
      transcript: null,
    },
    checkpoints: { fetch: null, speech: null, transcribe: [], align: [], diarize: null },
  };
}
