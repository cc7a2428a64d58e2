import { createHash } from 'node:crypto';
import type { Request, RequestHandler, Response } from 'express';
import { BlobNotFound } from '../../core/blobs/blobs.ts';
import { isSettled } from '../../core/job.ts';
import { idempotencyKey, type JobRef, jobKey, mediaKey, newJobId } from '../../core/objects.ts';
import { ServiceError } from '../../core/problem.ts';
import { removeTraces } from '../../core/tasks/delete-job.ts';
import { keepActive, markActive } from '../../core/tasks/mark-active.ts';
import { admitJob, type Submission } from '../admit-job.ts';
import { checkSoFar, checkSubmission } from '../check-submission.ts';
import type { ApiDependencies } from '../dependencies.ts';
import { ownerOf } from '../http/authenticate.ts';
import { preferredWaitSeconds } from '../http/prefer-wait.ts';
import { receiveUpload } from '../http/receive-upload.ts';
import { whenGone } from '../http/when-gone.ts';
import { readMediaSource } from '../media-source.ts';
import { selfUrl, viewTranscription } from '../transcription-view.ts';
import { waitUntilSettled } from '../wait-until-settled.ts';

/** When to look at a job again that has not ended. */
const RETRY_AFTER_SECONDS = 2;

/** Takes a media file, or where there is one, and options, and answers with the job that has been made of them. */
export function createTranscription(dependencies: ApiDependencies): RequestHandler {
  return async (req, res) => {
    const idempotencyHash = idempotencyHashOf(req);
    const job = { owner: ownerOf(res), id: newJobId(dependencies.now()) };
    const admitted = await submit(dependencies, job, async () => ({
      ...(await receive(await withoutLimitForKnown(dependencies, job, idempotencyHash), req, res, job)),
      idempotencyHash,
    }));

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

/** A request that is repeated asks for nothing new: the job is there, or has been let in. */
async function withoutLimitForKnown(
  dependencies: ApiDependencies,
  { owner }: JobRef,
  hash: string | null,
): Promise<ApiDependencies> {
  if (dependencies.dailySpendLimitUsd === undefined || hash === null) return dependencies;
  const isKnown = (await dependencies.records.read(idempotencyKey(owner, hash))) !== undefined;
  return isKnown ? { ...dependencies, dailySpendLimitUsd: undefined } : dependencies;
}

/** Whatever goes wrong, nothing is left of the media that was stored. */
async function submit(dependencies: ApiDependencies, job: JobRef, receiving: () => Promise<Submission>) {
  using _marker = keepActive(dependencies.records, job, dependencies.log);
  try {
    return await admitJob(dependencies, job, await receiving());
  } catch (error) {
    await discard(dependencies, job);
    throw error;
  }
}

type Received = Omit<Submission, 'idempotencyHash'>;

function receive(dependencies: ApiDependencies, req: Request, res: Response, job: JobRef): Promise<Received> {
  if (req.is('json')) return receiveAddress(dependencies, req.body, job);
  if (req.is('multipart/form-data')) return receiveFile(dependencies, req, res, job);
  throw new ServiceError(
    'invalid-request',
    'Send multipart/form-data with the media in the field file and the options as fields, or JSON with a source.',
  );
}

async function receiveFile(
  dependencies: ApiDependencies,
  req: Request,
  res: Response,
  job: JobRef,
): Promise<Received> {
  const upload = await receiveUpload(req, res, {
    maxBytes: dependencies.maxUploadBytes,
    beforeFile: async (fields) => {
      await checkSoFar(dependencies, fields);
      await markActive(dependencies, job, dependencies.now());
    },
    store: (body, options) => dependencies.blobs.write(mediaKey(job), body, options),
  });
  const { filename, contentType, sizeBytes, sha256 } = upload;
  const source = {
    type: 'upload',
    address: null,
    filename,
    content_type: contentType,
    bytes: sizeBytes,
    sha256,
  } as const;
  return { ...(await checkSubmission(dependencies, upload.fields, source.type)), source };
}

async function receiveAddress(dependencies: ApiDependencies, body: unknown, job: JobRef): Promise<Received> {
  const { source: named, ...options } = (body ?? {}) as Record<string, unknown>;
  const { source, storedAt } = await readMediaSource(dependencies, job.owner, named);
  const checked = await checkSubmission(dependencies, options, source.type);
  await markActive(dependencies, job, dependencies.now());
  if (storedAt !== null) await copyMedia(dependencies, storedAt, job);
  return { ...checked, source };
}

/** The job has media of its own: the upload may expire, or be used again. */
async function copyMedia({ blobs }: ApiDependencies, from: string, job: JobRef): Promise<void> {
  try {
    await blobs.copy(from, mediaKey(job));
  } catch (error) {
    if (!(error instanceof BlobNotFound)) throw error;
    throw new ServiceError('upload-gone', 'The upload has expired. Upload the file again.', {
      cause: error,
      extensions: { field: 'source' },
    });
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
