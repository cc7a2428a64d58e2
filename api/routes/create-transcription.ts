import { createHash } from 'node:crypto';
import type { Request, RequestHandler, Response } from 'express';
import { isSettled } from '../../core/job.ts';
import { type JobRef, jobKey, mediaKey, newJobId } from '../../core/objects.ts';
import { ServiceError } from '../../core/problem.ts';
import { removeTraces } from '../../core/tasks/delete-job.ts';
import { keepActive, markActive } from '../../core/tasks/mark-active.ts';
import { admitJob, type Submission } from '../admit-job.ts';
import { checkSoFar, checkSubmission } from '../check-submission.ts';
import type { ApiDependencies } from '../dependencies.ts';
import { ownerOf } from '../http/authenticate.ts';
import { preferredWaitSeconds } from '../http/prefer-wait.ts';
import { receiveUpload } from '../http/receive-upload.ts';
import { selfUrl, viewTranscription } from '../transcription-view.ts';
import { waitUntilSettled } from '../wait-until-settled.ts';

/** When to look at a job again that has not ended. */
const RETRY_AFTER_SECONDS = 2;

/** Takes a media file and its options, and answers with the job that has been made of them. */
export function createTranscription(dependencies: ApiDependencies): RequestHandler {
  return async (req, res) => {
    const idempotencyHash = idempotencyHashOf(req);
    if (req.is('json')) throw refuseJson(req.body);
    if (!req.is('multipart/form-data')) {
      throw new ServiceError(
        'invalid-request',
        'Send multipart/form-data with the media in the field file and the options as fields.',
      );
    }
    const job = { owner: ownerOf(res), id: newJobId(dependencies.now()) };
    const admitted = await submit(dependencies, req, res, job, idempotencyHash);

    const seconds = preferredWaitSeconds(req.get('prefer'));
    const record = await waitUntilSettled(dependencies.records, admitted.record, {
      seconds,
      signal: whenGone(res),
    });
    const isDone = isSettled(record.status);
    if (seconds > 0) res.set('Preference-Applied', `wait=${seconds}`);
    if (!isDone) res.set('Retry-After', String(RETRY_AFTER_SECONDS));
    res
      .status(!admitted.isNew || (seconds > 0 && isDone) ? 200 : 202)
      .location(selfUrl(record.id, req, dependencies.publicUrl))
      .json(viewTranscription(record, req, dependencies));
  };
}

async function submit(
  dependencies: ApiDependencies,
  req: Request,
  res: Response,
  job: JobRef,
  idempotencyHash: string | null,
) {
  const { blobs, records, queue } = dependencies;
  let submission: Submission;
  using _marker = keepActive(records, job, dependencies.log);
  try {
    const upload = await receiveUpload(req, res, {
      maxBytes: dependencies.maxUploadBytes,
      beforeFile: async (fields) => {
        await checkSoFar(dependencies, fields);
        await markActive({ records, queue }, job, dependencies.now());
      },
      store: (body, options) => blobs.write(mediaKey(job), body, options),
    });
    const { filename, contentType, sizeBytes, sha256 } = upload;
    submission = {
      ...(await checkSubmission(dependencies, upload.fields)),
      source: { type: 'upload', filename, content_type: contentType, bytes: sizeBytes, sha256 },
      idempotencyHash,
    };
  } catch (error) {
    await discard(dependencies, job);
    throw error;
  }
  try {
    return await admitJob(dependencies, job, submission);
  } catch (error) {
    await discard(dependencies, job);
    throw error;
  }
}

/** Keeps the error that led here: what cannot be removed now is found again through the marker. */
async function discard(dependencies: ApiDependencies, job: JobRef): Promise<void> {
  try {
    // A write whose answer was lost may have made the job after all.
    if ((await dependencies.records.read(jobKey(job))) === undefined) await removeTraces(dependencies, job);
  } catch (error) {
    dependencies.log.warn(
      { err: error, job: job.id },
      'an upload could not be removed; reconcile will do it',
    );
  }
}

function idempotencyHashOf(req: Request): string | null {
  const key = req.get('idempotency-key');
  if (key === undefined) return null;
  if (key.trim() === '' || key.length > 255) {
    throw new ServiceError('invalid-request', 'The header Idempotency-Key must have 1 to 255 characters.');
  }
  return createHash('sha256').update(key).digest('hex');
}

function refuseJson(body: unknown): ServiceError {
  const source: unknown =
    typeof body === 'object' && body !== null ? (body as Record<string, unknown>).source : undefined;
  const kinds = typeof source === 'object' && source !== null ? Object.keys(source) : [];
  const extensions = { field: 'source' };
  if (kinds.length === 1 && ['url', 'gcs_uri', 'upload_id'].includes(kinds[0] ?? '')) {
    return new ServiceError(
      'not-supported',
      `A source by ${kinds[0]} is not supported yet. Upload the file as multipart/form-data.`,
      { extensions },
    );
  }
  return new ServiceError(
    'invalid-option',
    'A JSON body needs a source with one of upload_id, url or gcs_uri. A file is sent as multipart/form-data.',
    { extensions },
  );
}

/** Aborts when the client has gone, or has its answer. */
function whenGone(res: Response): AbortSignal {
  const controller = new AbortController();
  if (res.destroyed) controller.abort();
  res.once('close', () => controller.abort());
  return controller.signal;
}
