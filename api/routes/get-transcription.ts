import type { RequestHandler } from 'express';
import type { ApiDependencies } from '../dependencies.ts';
import { findJob, jobRef } from '../find-job.ts';
import { ownerOf } from '../http/authenticate.ts';
import { viewTranscription } from '../transcription-view.ts';

export function getTranscription(dependencies: ApiDependencies): RequestHandler {
  return async (req, res) => {
    const record = await findJob(dependencies.records, jobRef(ownerOf(res), req.params.id));
    res.json(viewTranscription(record, req, dependencies));
  };
}
