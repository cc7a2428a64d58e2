import type { RequestHandler } from 'express';
import { retryJob } from '../../core/tasks/retry-job.ts';
import type { ApiDependencies } from '../dependencies.ts';
import { jobRef, noSuchJob } from '../find-job.ts';
import { ownerOf } from '../http/authenticate.ts';
import { viewTranscription } from '../transcription-view.ts';

export function retryTranscription(dependencies: ApiDependencies): RequestHandler {
  return async (req, res) => {
    const record = await retryJob(dependencies, jobRef(ownerOf(res), req.params.id), dependencies.now());
    if (record === undefined) throw noSuchJob();
    res.status(202).json(viewTranscription(record, req, dependencies));
  };
}
