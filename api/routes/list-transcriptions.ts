import type { RequestHandler } from 'express';
import { z } from 'zod';
import { JOB_STATUSES, JobRecord } from '../../core/job.ts';
import { JOB_ID, jobKey, jobPrefix } from '../../core/objects.ts';
import { ServiceError } from '../../core/problem.ts';
import type { ApiDependencies } from '../dependencies.ts';
import { ownerOf } from '../http/authenticate.ts';
import { viewTranscription } from '../transcription-view.ts';

const Query = z.strictObject({
  status: z.enum(JOB_STATUSES, `must be one of ${JOB_STATUSES.join(', ')}`).optional(),
  limit: z
    .string('must be a number from 1 to 100')
    .regex(/^\d{1,3}$/, 'must be a number from 1 to 100')
    .transform(Number)
    .pipe(z.number().min(1, 'must be at least 1').max(100, 'must be at most 100'))
    .default(20),
  after: z.string().regex(JOB_ID, 'must be the id of a transcription').optional(),
});

/** The newest first. `after` takes the last id of a page and gives the next. */
export function listTranscriptions(dependencies: ApiDependencies): RequestHandler {
  return async (req, res) => {
    const owner = ownerOf(res);
    const { status, limit, after } = parseQuery(req.query);
    const { records, hasMore } = await dependencies.records.list({
      prefix: jobPrefix(owner),
      limit,
      ...(after === undefined ? {} : { after: jobKey({ owner, id: after }) }),
      ...(status === undefined ? {} : { label: status }),
    });
    res.json({
      object: 'list',
      data: records.map(({ value }) => viewTranscription(JobRecord.parse(value), req, dependencies)),
      has_more: hasMore,
    });
  };
}

function parseQuery(query: unknown): z.infer<typeof Query> {
  const result = Query.safeParse(query);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const field = String(issue?.code === 'unrecognized_keys' ? issue.keys[0] : issue?.path[0]).slice(0, 100);
  const detail =
    issue?.code === 'unrecognized_keys'
      ? `There is no parameter ${field}. Parameters are status, limit and after.`
      : `The parameter ${field} is not valid: it ${issue?.message}.`;
  throw new ServiceError('invalid-option', detail, { extensions: { field } });
}
