import { writeJson } from '../blobs/blobs.ts';
import { transcriptKey } from '../objects.ts';
import { ServiceError } from '../problem.ts';
import type { JobSession } from '../tasks/job-session.ts';
import { settleJob } from '../tasks/settle-job.ts';
import type { WorkerContext } from '../tasks/worker-context.ts';
import type { Transcript } from '../transcript.ts';
import { type SourceWriteAccess, saveBesideSource } from './save-beside-source.ts';

/** The last stage of every engine: the transcript is stored, saved beside its source if that was asked for, and named. */
export async function writeTranscript(
  context: WorkerContext,
  access: SourceWriteAccess,
  session: JobSession,
  transcript: Transcript,
): Promise<void> {
  const key = transcriptKey(session.job, session.epoch);
  await session.stage('write', async () => {
    await writeJson(context.blobs, key, transcript);
    await saveBeside(context, access, session, transcript);
  });
  await settleJob(context, session, { transcript: key });
}

/** The transcript is safe by now, so a bucket that does not take it is a warning. */
async function saveBeside(
  { log }: WorkerContext,
  access: SourceWriteAccess,
  session: JobSession,
  transcript: Transcript,
): Promise<void> {
  try {
    await saveBesideSource(access, session.record, transcript, session.signal);
  } catch (error) {
    session.signal.throwIfAborted();
    log.error({ err: error, job: session.job.id }, 'the transcript could not be saved beside its source');
    const why = error instanceof ServiceError ? error.message : 'Cloud Storage does not take it.';
    await session.update((record) => {
      record.warnings.push({
        code: 'save-failed',
        message: `The transcript could not be saved beside its source. ${why}`,
      });
    });
  }
}
