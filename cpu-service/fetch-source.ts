import type { Storage } from '@google-cloud/storage';
import { checkGcsSource } from '../core/gcs-sources.ts';
import { UNKNOWN_TYPE } from '../core/media-types.ts';
import { fetchedMediaKey } from '../core/objects.ts';
import type { SourceLimits } from '../core/source-limits.ts';
import type { JobSession, Report } from '../core/tasks/job-session.ts';
import type { WorkerContext } from '../core/tasks/worker-context.ts';
import { fetchMedia } from './fetch-media.ts';
import { openGcsSource } from './open-gcs-source.ts';
import { openLink } from './open-link.ts';
import type { OpenRemote } from './remote-media.ts';

export interface SourceAccess extends SourceLimits {
  /** With the service's own rights. */
  openStorage(): Promise<Storage>;
}

/** Brings the media of a job from where its user said it is, and names it in the record. */
export async function fetchSource(
  { blobs }: Pick<WorkerContext, 'blobs'>,
  access: SourceAccess,
  session: JobSession,
  report: Report,
): Promise<void> {
  let { filename, content_type } = session.record.source;
  const { key, sizeBytes } = await fetchMedia(blobs, openerOf(access, session), {
    key: fetchedMediaKey(session.job, session.epoch),
    checkpoint: session.record.checkpoints.fetch,
    save: (checkpoint) =>
      session.update((record) => {
        record.checkpoints.fetch = checkpoint;
        // A call that finds all bytes there opens nothing that would tell it.
        record.source = { ...record.source, filename, content_type };
      }),
    onOpened: (media) => {
      filename = media.filename ?? filename;
      content_type = media.contentType ?? (content_type || UNKNOWN_TYPE);
    },
    onProgress: (done, total) =>
      report(total === null || total === 0 ? 0 : done / total, { done, total, unit: 'bytes' }),
    signal: session.signal,
  });
  await session.update((record) => {
    record.source = { ...record.source, filename, content_type, bytes: sizeBytes };
    record.objects.media = key;
    record.checkpoints.fetch = null;
  });
}

/** What the API has allowed is checked again: the operator may have changed his mind, and names their addresses. */
function openerOf(access: SourceAccess, { record: { source } }: JobSession): OpenRemote {
  const address = source.address ?? '';
  const { linkNetworks: networks, maxUploadBytes: maxBytes } = access;
  if (source.type === 'gcs') {
    const object = checkGcsSource(address, access.gcsSources);
    return async (from) => openGcsSource(await access.openStorage(), object, { ...from, maxBytes });
  }
  return (from) => openLink(address, { ...from, networks, maxBytes });
}
