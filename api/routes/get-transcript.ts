import type { RequestHandler } from 'express';
import { readJson } from '../../core/blobs/blobs.ts';
import { parseFormatOptions } from '../../core/formats/format-options.ts';
import { FORMATS, renderTranscript } from '../../core/formats/formats.ts';
import type { JobRecord } from '../../core/job.ts';
import { ServiceError } from '../../core/problem.ts';
import { Transcript } from '../../core/transcript.ts';
import type { ApiDependencies } from '../dependencies.ts';
import { findJob, jobRef } from '../find-job.ts';
import { ownerOf } from '../http/authenticate.ts';
import { contentDisposition } from '../http/media-name.ts';

/** Every format is rendered now, from the one transcript that is stored. */
export function getTranscript({ records, blobs }: ApiDependencies): RequestHandler {
  return async (req, res) => {
    const { format, ...options } = parseFormatOptions(req.query);
    const record = await findJob(records, jobRef(ownerOf(res), req.params.id));
    if (record.objects.transcript === null) throw notFinished(record);
    const transcript = Transcript.parse(await readJson(blobs, record.objects.transcript));
    const { contentType, extension } = FORMATS[format];
    const name = (record.source.filename ?? record.id).replace(/\.[^.]{1,10}$/, '');
    res
      .type(contentType)
      .set('Content-Disposition', contentDisposition('inline', name + extension))
      .send(renderTranscript(transcript, format, options));
  };
}

function notFinished({ status }: JobRecord): ServiceError {
  const detail = {
    queued: 'The transcription waits for its turn. Ask again later.',
    processing: 'The transcription is being made. Ask again later.',
    completed: 'The transcript is no longer stored.',
    failed: 'The transcription failed, so there is no transcript. Its problem says why.',
    canceled: 'The transcription was canceled, so there is no transcript.',
  }[status];
  return new ServiceError('not-finished', detail);
}
