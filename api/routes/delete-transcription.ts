import type { RequestHandler } from 'express';
import { deleteJob } from '../../core/tasks/delete-job.ts';
import type { ApiDependencies } from '../dependencies.ts';
import { jobRef, noSuchJob } from '../find-job.ts';
import { ownerOf } from '../http/authenticate.ts';

export function deleteTranscription(dependencies: ApiDependencies): RequestHandler {
  return async (req, res) => {
    if (!(await deleteJob(dependencies, jobRef(ownerOf(res), req.params.id)))) throw noSuchJob();
    res.status(204).end();
  };
}
