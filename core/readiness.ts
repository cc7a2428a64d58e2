import type { StageName } from './job.ts';

/** What /health/ready says. */
export interface Readiness {
  isReady: boolean;
  /** One sentence for the operator. */
  detail: string;
  /** Of the stages of a job, where they do not all become ready at once. */
  stages?: Partial<Record<StageName, string>>;
}
