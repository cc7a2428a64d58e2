import { pipeline } from 'node:stream/promises';
import type { Request, RequestHandler, Response } from 'express';
import { type BlobInfo, BlobNotFound } from '../../core/blobs/blobs.ts';
import type { JobRecord } from '../../core/job.ts';
import { UNKNOWN_TYPE } from '../../core/media-types.ts';
import { ServiceError } from '../../core/problem.ts';
import type { ApiDependencies } from '../dependencies.ts';
import { findJob, jobRef } from '../find-job.ts';
import { authenticate, ownerOf } from '../http/authenticate.ts';
import { ownerOfMediaLink } from '../http/media-link.ts';
import { contentDisposition } from '../http/media-name.ts';
import { isPlayable } from '../http/media-type.ts';

/** A signed link or a key. */
export function authenticateMedia({ keys, publicUrl, urlSigningKey, now }: ApiDependencies): RequestHandler {
  const withKey = authenticate(keys, publicUrl);
  return (req, res, next) => {
    if (req.query.signature === undefined) {
      withKey(req, res, next);
      return;
    }
    const owner = ownerOfMediaLink(urlSigningKey, String(req.params.id), req.query, now());
    if (owner === undefined) {
      throw new ServiceError(
        'unauthorized',
        'The link is not valid, or its time is over. Get the transcription again for a new one.',
      );
    }
    res.locals.owner = owner;
    next();
  };
}

/** The media as it was sent or, with `?as=audio`, the small copy for a player; whole or in part. */
export function getMedia({ records, blobs }: ApiDependencies): RequestHandler {
  return async (req, res) => {
    const record = await findJob(records, jobRef(ownerOf(res), req.params.id));
    const { key, contentType, filename } = choose(record, req.query.as);
    const info = await blobs.stat(key);
    if (info === undefined) throw gone();

    res.set({
      'Accept-Ranges': 'bytes',
      'Content-Type': isPlayable(contentType) ? contentType : UNKNOWN_TYPE,
      'Content-Disposition': contentDisposition(isPlayable(contentType) ? 'inline' : 'attachment', filename),
      ETag: etagOf(info),
      'Last-Modified': info.updatedAt.toUTCString(),
    });
    if (req.fresh) {
      res.status(304).end();
      return;
    }
    const range = rangeOf(req, res, info);
    res.set('Content-Length', String(range === undefined ? info.sizeBytes : range.end - range.start + 1));
    if (range !== undefined) {
      res.status(206).set('Content-Range', `bytes ${range.start}-${range.end}/${info.sizeBytes}`);
    }
    if (req.method === 'HEAD') {
      res.end();
      return;
    }
    try {
      await pipeline(await blobs.read(key, range ?? {}), res);
    } catch (error) {
      if (error instanceof BlobNotFound) throw gone();
      // A player that has enough, or jumps, closes the connection.
      if (!isClientGone(error)) throw error;
    }
  };
}

function choose(record: JobRecord, as: unknown): { key: string; contentType: string; filename: string } {
  const filename = record.source.filename ?? record.id;
  if (as === undefined) {
    if (record.objects.media === null) throw gone();
    return { key: record.objects.media, contentType: record.source.content_type, filename };
  }
  if (as !== 'audio') {
    throw new ServiceError('invalid-option', 'The parameter as can only be audio, or be left out.', {
      extensions: { field: 'as' },
    });
  }
  if (record.objects.playback !== null) {
    const name = `${filename.replace(/\.[^.]{1,10}$/, '')}.mp3`;
    return { key: record.objects.playback, contentType: 'audio/mpeg', filename: name };
  }
  if (record.status === 'queued' || record.status === 'processing') {
    throw new ServiceError('not-finished', 'The playable copy is not made yet. Ask again in a moment.');
  }
  throw gone();
}

function gone(): ServiceError {
  return new ServiceError('not-found', 'The media of this transcription is not stored any more.');
}

/** Undefined for the whole; more than one range at once is answered with the whole too, as RFC 9110 allows. */
function rangeOf(req: Request, res: Response, info: BlobInfo): { start: number; end: number } | undefined {
  const condition = req.get('if-range');
  if (condition !== undefined && condition !== etagOf(info) && condition !== info.updatedAt.toUTCString()) {
    return undefined;
  }
  const ranges = req.range(info.sizeBytes, { combine: true });
  if (ranges === -1) {
    res.set('Content-Range', `bytes */${info.sizeBytes}`);
    throw new ServiceError('range-not-satisfiable', `The file has ${info.sizeBytes} bytes.`);
  }
  if (ranges === undefined || ranges === -2 || ranges.type !== 'bytes' || ranges.length !== 1)
    return undefined;
  return ranges[0];
}

function etagOf({ sizeBytes, updatedAt }: BlobInfo): string {
  return `"${sizeBytes.toString(36)}-${updatedAt.getTime().toString(36)}"`;
}

function isClientGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ERR_STREAM_PREMATURE_CLOSE' || code === 'ECONNRESET' || code === 'EPIPE';
}
