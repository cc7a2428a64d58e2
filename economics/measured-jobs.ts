import type { Client, Transcription } from '../cli/client.ts';
import type { Speed } from '../core/costs/platform-models.ts';
import { percentile } from './summary.ts';
import type { Workload } from './workload.ts';

export interface MeasuredJobs {
  workload: Workload;
  /** Of the GPU: all audio through all work, so that what each job takes besides is in it. */
  gpu: Speed;
  /** The median of the jobs that met a cold instance; null where none did. */
  coldStartSeconds: number | null;
}

const PAGE = 100;

/**
 * What a service has done, the newest jobs first and `limit` of them at most.
 * @returns undefined where none of them is completed
 */
export async function measureJobs(client: Client, limit: number): Promise<MeasuredJobs | undefined> {
  const jobs: Transcription[] = [];
  for (let after: string | undefined; jobs.length < limit; ) {
    const page = await client.list({
      status: 'completed',
      limit: Math.min(PAGE, limit - jobs.length),
      ...(after !== undefined && { after }),
    });
    jobs.push(...page.data);
    after = page.data.at(-1)?.id;
    if (!page.has_more) break;
  }
  return fromJobs(jobs);
}

export function fromJobs(
  jobs: readonly Pick<Transcription, 'created_at' | 'duration_seconds' | 'metrics' | 'usage'>[],
): MeasuredJobs | undefined {
  const done = jobs.flatMap((job) => {
    const { created_at, duration_seconds } = job;
    const seconds = secondsOf(job);
    return duration_seconds === null || seconds === undefined
      ? []
      : [{ atMs: Date.parse(created_at), audioSeconds: duration_seconds, isOfApi: isOfApi(job), ...seconds }];
  });
  const onGpu = done.filter(({ isOfApi }) => !isOfApi);
  const audio = onGpu.reduce((sum, { audioSeconds }) => sum + audioSeconds, 0);
  const work = onGpu.reduce((sum, { workSeconds }) => sum + workSeconds, 0);
  if (audio === 0 || work === 0) return undefined;
  const firstMs = Math.min(...done.map(({ atMs }) => atMs));
  const lastMs = Math.max(...done.map(({ atMs }) => atMs));
  const waits = onGpu.flatMap(({ coldSeconds }) =>
    coldSeconds !== null && coldSeconds > 1 ? [coldSeconds] : [],
  );
  return {
    workload: {
      arrivals: done
        .map(({ atMs, audioSeconds }) => ({ atSeconds: (atMs - firstMs) / 1_000, audioSeconds }))
        .sort((one, other) => one.atSeconds - other.atSeconds),
      // A month is paid by the month: less than a day of jobs says nothing of it, and is taken for a day.
      horizonSeconds: Math.max(24 * 3_600, (lastMs - firstMs) / 1_000),
    },
    gpu: { realtimeFactor: audio / work, overheadSeconds: 0 },
    coldStartSeconds: waits.length === 0 ? null : percentile(waits, 0.5),
  };
}

/** An API's speed says nothing of the GPU's: such jobs only tell when recordings come. */
function isOfApi({ usage = [] }: Pick<Transcription, 'usage'>): boolean {
  return usage.some(({ api_audio_seconds = 0 }) => api_audio_seconds > 0);
}

/**
 * What a job kept a GPU for: with what its tries repeated, and the reading of its audio. The wait for models is in its use
 * too, and belongs to the start. Of a job without a GPU, its stages.
 */
function secondsOf({
  metrics,
  usage = [],
}: Pick<Transcription, 'metrics' | 'usage'>):
  | { workSeconds: number; coldSeconds: number | null }
  | undefined {
  if (metrics.processing_seconds === null) return undefined;
  const waited = metrics.cold_start_seconds ?? null;
  const ofGpu = usage.filter(({ gpu_seconds }) => gpu_seconds > 0);
  if (ofGpu.length === 0) return { workSeconds: metrics.processing_seconds, coldSeconds: waited };
  const busy = ofGpu.reduce((sum, { gpu_seconds }) => sum + gpu_seconds, 0);
  const started = ofGpu.reduce((sum, { cold_start_seconds }) => sum + cold_start_seconds, 0);
  return { workSeconds: Math.max(0, busy - (waited ?? 0)), coldSeconds: started + (waited ?? 0) };
}
