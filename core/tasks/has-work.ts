import type { JobRecord } from '../job.ts';

/** Whether an engine has stored anything of the job that it would not do again. */
export function hasWork({ checkpoints }: Pick<JobRecord, 'checkpoints'>): boolean {
  const { speech, transcribe, align, diarize } = checkpoints;
  return speech !== null || transcribe.length > 0 || align.length > 0 || diarize !== null;
}
