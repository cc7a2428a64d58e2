import type { InstanceUsage, JobRecord, Usage } from '../job.ts';

/** Where ingest's use is noted: it runs on no backend. */
export const INGEST_BACKEND = 'cpu-service';

/** What the job has used at a backend: finds or adds the entry, to be changed within `session.update`. */
export function usageOf(record: Pick<JobRecord, 'usage'>, backend: string): Usage {
  let usage = record.usage.find((one) => one.backend === backend);
  if (usage === undefined) {
    usage = {
      backend,
      busy_seconds: 0,
      cold_start_seconds: 0,
      gpu_seconds: 0,
      instances: [],
      api_audio_seconds: 0,
      unconfirmed_audio_seconds: 0,
    };
    record.usage.push(usage);
  }
  return usage;
}

/** The same of one instance of it. */
export function instanceUsageOf(usage: Usage, id: string): InstanceUsage {
  let instance = usage.instances.find((one) => one.id === id);
  if (instance === undefined) {
    instance = { id, busy_seconds: 0, cold_start_seconds: 0, attributed_usd: null };
    usage.instances.push(instance);
  }
  return instance;
}
