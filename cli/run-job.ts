import { setTimeout as delay } from 'node:timers/promises';
import { isSettled } from '../core/job.ts';
import type { Client, Transcription } from './client.ts';
import type { JobService } from './embedded-service.ts';
import { JobFailed } from './job-failed.ts';
import { printable } from './printable.ts';
import { ServiceUnreachable } from './service-errors.ts';
import { type Submission, submit } from './submit.ts';
import type { Plan } from './transcript-files.ts';
import { writeAtomically } from './write-atomically.ts';

/** Everything a job needs besides its recording. */
export interface JobSurroundings extends Submission {
  client: Client;
  service: JobService;
  /** Whether the user should be told where the transcription is found again. */
  isElsewhere: boolean;
  /** Of the service, not of this recording: it is said once. */
  tellModel(text: string): void;
}

const CANCEL_TIMEOUT_MS = 5_000;
/** A service of our own is not far away. */
const POLL_INTERVAL_MS = { elsewhere: 500, here: 100 };
/** A service that is being restarted goes on with the job. */
const UNREACHABLE_LIMIT_MS = 60_000;

/**
 * Submits the recording, follows the job to its end and writes the transcripts. A job that nobody waits for any more is
 * canceled.
 * @throws {JobFailed}
 */
export async function runJob({ input, files }: Plan, surroundings: JobSurroundings): Promise<Transcription> {
  const { client, progress, signal, isElsewhere } = surroundings;
  const created = await submit(client, input, surroundings);
  if (isElsewhere) progress.note(`Transcription ${printable(created.id)} on ${client.server}`);
  let isOver = false;
  try {
    const settled = await follow(created, surroundings);
    isOver = true;
    if (settled.status !== 'completed') throw new JobFailed(settled.problem ?? canceled(settled.id));
    await writeTranscripts(client, settled, files, signal);
    return settled;
  } catch (error) {
    if (signal.aborted && !isOver)
      await client.cancel(created.id, AbortSignal.timeout(CANCEL_TIMEOUT_MS)).catch(() => {});
    throw error;
  }
}

function canceled(id: string) {
  return {
    type: 'about:blank',
    title: 'The transcription was canceled',
    status: 409,
    detail: `Somebody else canceled it. To run it again: zeroscribe jobs retry ${id}`,
  };
}

async function follow(
  created: Transcription,
  { client, service, progress, signal, options, isElsewhere, tellModel }: JobSurroundings,
): Promise<Transcription> {
  let current = created;
  let isModelTold = false;
  let unreachableSinceMs: number | undefined;
  for (;;) {
    const model = current.model ?? current.options.model;
    if (!isModelTold && model) {
      isModelTold = true;
      const because = options.model ? undefined : service.modelReason;
      const reason = options.model ? 'as asked for' : 'the default of the service';
      tellModel(printable(`Model: ${because ?? `${model}, ${reason}`}`));
    }
    progress.look(current);
    if (isSettled(current.status)) return current;
    await delay(isElsewhere ? POLL_INTERVAL_MS.elsewhere : POLL_INTERVAL_MS.here, undefined, {
      signal,
    }).catch(() => {
      throw signal.reason;
    });
    try {
      current = await client.get(current.id, signal);
      unreachableSinceMs = undefined;
    } catch (error) {
      if (!(error instanceof ServiceUnreachable)) throw error;
      if (unreachableSinceMs === undefined)
        progress.note('The connection is lost; trying again for a minute.');
      unreachableSinceMs ??= performance.now();
      if (performance.now() - unreachableSinceMs > UNREACHABLE_LIMIT_MS) throw error;
    }
  }
}

async function writeTranscripts(
  client: Client,
  { id }: Transcription,
  files: Plan['files'],
  signal: AbortSignal,
): Promise<void> {
  for (const { format, path } of files) {
    const text = await client.transcript(id, format, signal);
    await writeAtomically(path, text).catch((cause: NodeJS.ErrnoException) => {
      throw new Error(`The transcript could not be written to ${path} (${cause.code}).`, { cause });
    });
  }
}
