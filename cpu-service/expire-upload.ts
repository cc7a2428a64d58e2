import { uploadLockKey } from '../core/objects.ts';
import type { Outcome } from '../core/tasks/outcome.ts';
import type { TaskPayload } from '../core/tasks/task.ts';
import type { WorkerContext } from '../core/tasks/worker-context.ts';
import { removeUpload } from '../core/uploads/remove-upload.ts';

/**
 * Removes an upload whose time is over. The task is on its queue before anything of the upload is in the store, so
 * there may be nothing yet, half of it, or nothing any more. Transcriptions made of it have copies of their own.
 */
export async function expireUpload(
  { blobs, records, log }: Pick<WorkerContext, 'blobs' | 'records' | 'log'>,
  { upload }: TaskPayload,
): Promise<Outcome> {
  if (upload === undefined) throw new Error('the task names no upload');
  await records.delete(uploadLockKey(upload));
  await removeUpload({ blobs, records }, upload);
  log.info({ upload: upload.id }, 'the upload has expired');
  return { kind: 'done' };
}
