import type { RequestHandler } from 'express';
import { cancelJob } from '../../core/tasks/cancel-job.ts';
import type { ApiDependencies } from '../dependencies.ts';
import { jobRef, noSuchJob } from '../find-job.ts';
import { ownerOf } from '../http/authenticate.ts';
import { viewTranscription } from '../transcription-view.ts';

export function cancelTranscription(dependencies: ApiDependencies): RequestHandler {
  return async (req, res) => {
    const record = await cancelJob(dependencies, jobRef(ownerOf(res), req.params.id));
    if (record === undefined) throw noSuchJob();
    res.status(202).json(viewTranscription(record, req, dependencies));
  };
}
