import { z } from 'zod';
import { INSTANCE_ID, JOB_ID, OWNER, UPLOAD_ID } from '../objects.ts';
import type { TaskPayload } from './task.ts';

const job = z.object({ owner: z.string().regex(OWNER), id: z.string().regex(JOB_ID) });
const upload = z.object({ owner: z.string().regex(OWNER), id: z.string().regex(UPLOAD_ID) });
const instance = z.object({
  backend: z.string().regex(/^[a-z0-9-]{1,63}$/),
  id: z.string().regex(INSTANCE_ID),
});
const part = z.int().min(1);
const run = z.string().regex(/^[a-z0-9_-]{1,63}$/);

const Payload: z.ZodType<TaskPayload> = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ingest'), job, part: part.exactOptional() }),
  z.object({
    type: z.literal('transcribe'),
    job,
    part: part.exactOptional(),
    run: run.exactOptional(),
  }),
  z.object({ type: z.literal('start-run'), job, part: part.exactOptional() }),
  z.object({ type: z.literal('stop-run'), job }),
  z.object({ type: z.literal('reconcile'), dueMs: z.number().exactOptional() }),
  z.object({ type: z.literal('expire-upload'), upload }),
  z.object({ type: z.literal('attribute-costs'), instance, dueMs: z.number().exactOptional() }),
]);

/** What came from outside as the payload of a task; nothing when it is none. */
export function readTaskPayload(value: unknown): TaskPayload | undefined {
  return Payload.safeParse(value).data;
}
