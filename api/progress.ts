import type { JobRecord, StageName } from '../core/job.ts';

/** About how the time of a job divides. Only for a bar that moves evenly; nothing is decided by it. */
const WEIGHTS: Record<StageName, number> = {
  fetch: 1,
  decode: 9,
  'detect-speech': 4,
  transcribe: 60,
  align: 14,
  diarize: 10,
  write: 2,
};

/** Stages that are over once any other has begun, whether or not they were reported. */
const PREPARATION = new Set<StageName>(['fetch', 'decode', 'detect-speech']);

/** How much of the job is done, 0 to 100, counting only the stages that its options ask for. */
export function percentOf(record: Pick<JobRecord, 'status' | 'options' | 'stages'>): number {
  if (record.status === 'completed') return 100;
  const stages = new Map(record.stages.map((stage) => [stage.name, stage]));
  const isPrepared = record.stages.some((stage) => !PREPARATION.has(stage.name));
  let total = 0;
  let done = 0;
  for (const [name, weight] of Object.entries(WEIGHTS) as [StageName, number][]) {
    if (name === 'align' && !record.options.word_timestamps) continue;
    if (name === 'diarize' && !record.options.diarize) continue;
    total += weight;
    const stage = stages.get(name);
    if (stage?.status === 'done' || (isPrepared && PREPARATION.has(name))) done += weight;
    else done += weight * (stage?.fraction ?? 0);
  }
  return Math.round((done / total) * 1_000) / 10;
}
