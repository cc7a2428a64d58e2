import { localFile } from '../core/blobs/local-file.ts';
import { checkSpendLimit } from '../core/costs/spend-limit.ts';
import type { Warning } from '../core/job.ts';
import { audioKey, playbackKey } from '../core/objects.ts';
import { ServiceError } from '../core/problem.ts';
import { chooseBackend, toRoute } from '../core/routing/choose-backend.ts';
import { noteChoice } from '../core/routing/note-choice.ts';
import type { JobSession, Report } from '../core/tasks/job-session.ts';
import { nextTask } from '../core/tasks/next-task.ts';
import type { Outcome } from '../core/tasks/outcome.ts';
import { runJobTask } from '../core/tasks/run-job-task.ts';
import { settleJob } from '../core/tasks/settle-job.ts';
import { type TaskPayload, taskRef } from '../core/tasks/task.ts';
import type { WorkerContext } from '../core/tasks/worker-context.ts';
import { type DecodedMedia, decodeMedia } from './decode-media.ts';
import { fetchSource, type SourceAccess } from './fetch-source.ts';

export interface IngestTools {
  ffmpegPath: string;
  /** For media in a store that ffmpeg cannot read by itself. */
  scratchDir: string;
  /** For media that is somewhere else. */
  access: SourceAccess;
}

const DAMAGED: Warning = {
  code: 'media-damaged',
  message: 'The media is damaged: some of the recording may be missing from the transcript.',
};

/**
 * Makes audio of whatever the user sent or named, then hands the job to its backend. Strangers' links are followed and
 * their files opened here, on an instance that costs little and holds no model.
 */
export function ingest(
  context: WorkerContext,
  tools: IngestTools,
  payload: TaskPayload,
  interruption: AbortSignal,
): Promise<Outcome> {
  return runJobTask(context, 'ingest', payload, interruption, async (session) => {
    const { source, objects } = session.record;
    if (source.type !== 'upload' && objects.media === null) {
      await session.stage('fetch', (report) => fetchSource(context, tools.access, session, report));
    }
    const playback = playbackKey(session.job, session.epoch);
    const media = await session.stage('decode', (report) =>
      decode(context, tools, session, playback, report),
    );

    const { durationSeconds } = media;
    const { routing, model } = await chooseBackend(context, { ...toRoute(session.record), durationSeconds });
    const nowMs = (context.now ?? Date.now)();
    try {
      await checkSpendLimit(context, routing.chosen, nowMs);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      // It will not pass within the tries of a task, so the job ends now: its user retries it tomorrow.
      await settleJob(context, session, error);
      return { kind: 'failed', error };
    }
    await session.update((record) => {
      record.duration_seconds = durationSeconds;
      record.warnings = media.isDamaged ? [DAMAGED] : [];
      record.objects.audio = Array.from({ length: media.channels }, (_, channel) =>
        audioKey(session.job, session.epoch, channel),
      );
      record.objects.playback = playback;
      record.routing = routing;
      record.backend = routing.chosen;
      record.model = model ?? record.model;
      record.queued_at = new Date(nowMs).toISOString();
      record.stage = null;
      record.lease = null;
      record.task = taskRef(nextTask(context.backends, record));
    });
    await context.queue.enqueue(nextTask(context.backends, session.record));
    // The work does not wait for the books.
    await noteChoice(context, session.record);
    return { kind: 'done' };
  });
}

async function decode(
  { blobs }: WorkerContext,
  { ffmpegPath, scratchDir }: IngestTools,
  session: JobSession,
  playbackAt: string,
  report: Report,
): Promise<DecodedMedia> {
  const { media } = session.record.objects;
  if (media === null || (await blobs.stat(media)) === undefined) {
    throw new ServiceError('media-gone', 'The media of this job is no longer stored. Submit it again.');
  }
  const { signal, job, epoch } = session;
  const { audio_track, channels } = session.record.options;
  await using local = await localFile(blobs, media, scratchDir, signal);
  return await decodeMedia(
    { path: local.path, audioTrack: audio_track, channels },
    {
      audio: (body, channel) =>
        blobs.write(audioKey(job, epoch, channel), body, { contentType: 'audio/flac', signal }),
      playback: (body) => blobs.write(playbackAt, body, { contentType: 'audio/mpeg', signal }),
    },
    {
      ffmpegPath,
      signal,
      onProgress: ({ decodedSeconds: done, declaredSeconds: total }) =>
        report(total ? done / total : 0, { done, total, unit: 'seconds' }),
    },
  );
}
