import { addAbortListener } from 'node:events';
import { type Lock, Server, TUS_RESUMABLE } from '@tus/server';
import type { Request, RequestHandler, Response } from 'express';
import { newUploadId, UPLOAD_ID } from '../../core/objects.ts';
import { ServiceError } from '../../core/problem.ts';
import type { ApiDependencies } from '../dependencies.ts';
import { ownerOf } from '../http/authenticate.ts';
import { baseUrl } from '../http/base-url.ts';
import { whenGone } from '../http/when-gone.ts';
import { PieceBody } from './piece-body.ts';
import { takenOver, tusProblem } from './tus-problem.ts';
import { noSuchUpload, TUS_EXTENSIONS, TusStore } from './tus-store.ts';
import type { HeldLock, UploadLocks } from './upload-lock.ts';

const PATH = '/v1/uploads';
const PIECE_TYPE = 'application/offset+octet-stream';

/** What @tus/server reads. It gets no other header, so that none can mean anything to it that it does not to us. */
const HEADERS = [
  'tus-resumable',
  'upload-length',
  'upload-defer-length',
  'upload-metadata',
  'upload-offset',
  'upload-concat',
  'content-type',
  'content-length',
];

/** What can be known of our uploads without a key, as the protocol has it. */
export function describeTus({ maxUploadBytes }: ApiDependencies): RequestHandler {
  return (_req, res) => {
    res
      .set({
        'Tus-Resumable': TUS_RESUMABLE,
        'Tus-Version': TUS_RESUMABLE,
        'Tus-Extension': TUS_EXTENSIONS.join(','),
        'Tus-Max-Size': String(maxUploadBytes),
      })
      .status(204)
      .end();
  };
}

/**
 * tus 1.0.0: POST creates an upload; HEAD, PATCH and DELETE are about the one that the path names. @tus/server reads
 * and answers the headers. A server is made for each request, so that all of it knows whose request it is; the bytes go
 * past it, and its answers become problems where they are errors.
 */
export function serveTus(dependencies: ApiDependencies, locks: UploadLocks): RequestHandler<{ id?: string }> {
  const { stopping } = dependencies;
  return async (req, res, next) => {
    const { id } = req.params;
    const method = methodOf(req);
    if (!(id === undefined ? ['POST'] : ['HEAD', 'PATCH', 'DELETE']).includes(method)) {
      next();
      return;
    }
    res.set('Tus-Resumable', TUS_RESUMABLE);
    checkProtocol(method, req, res);
    if (id !== undefined && !UPLOAD_ID.test(id)) throw noSuchUpload();

    const upload = { owner: ownerOf(res), id: id ?? newUploadId(dependencies.now()) };
    const gone = whenGone(res);
    const lost = new AbortController();
    let body: PieceBody | undefined;
    using _stopping = stopping && addAbortListener(stopping, () => body?.stop());
    let failure: unknown;
    const store = new TusStore(dependencies, upload, {
      metadata: req.get('upload-metadata') ?? null,
      openBody: () => {
        body = new PieceBody(req);
        if (stopping?.aborted) body.stop();
        return body;
      },
      lost: lost.signal,
    });
    let lock: HeldLock | undefined;
    const newLock = (): Lock => ({
      async lock(_signal, requestRelease) {
        // Nobody else can know the upload that this request is about to create.
        if (method === 'POST') return;
        lock = await locks.acquire(upload, {
          signal: gone,
          onWanted: () => {
            body?.stop();
            requestRelease();
          },
          onLost: () => lost.abort(takenOver()),
        });
      },
      async unlock() {
        await (store.isGone ? lock?.discard() : lock?.release());
      },
    });
    const tus = new Server({
      path: PATH,
      datastore: store,
      maxSize: dependencies.maxUploadBytes,
      allowedOrigins: [],
      locker: { newLock },
      lockDrainTimeout: 1,
      namingFunction: () => upload.id,
      getFileIdFromRequest: () => upload.id,
      generateUrl: () => `${baseUrl(req, dependencies.publicUrl)}${PATH}/${upload.id}`,
      onIncomingRequest: async () => {
        if (method !== 'POST') await store.find();
      },
      onResponseError: (_req, error) => {
        failure = error;
        return undefined;
      },
    });
    const answer = await tus.handleWeb(asWebRequest(method, req, upload.id));
    if (answer.status >= 400) {
      // A client that does not learn of the upload could not even end it.
      if (method === 'POST' && store.record !== undefined) await store.remove();
      throw tusProblem(failure, await answer.text(), dependencies.maxUploadBytes);
    }
    for (const [name, value] of answer.headers) {
      if (isPassedOn(name, req)) res.set(name, value);
    }
    if (method === 'HEAD' && store.record?.metadata) res.set('Upload-Metadata', store.record.metadata);
    res.status(answer.status).end();
  };
}

/** Where no other method but GET and POST gets through. */
function methodOf(req: Request<{ id?: string }>): string {
  const instead = req.method === 'POST' ? req.get('x-http-method-override') : undefined;
  return instead?.toUpperCase() ?? req.method;
}

/** What @tus/server checks too, but answers with other statuses than the protocol has. */
function checkProtocol(method: string, req: Request<{ id?: string }>, res: Response): void {
  if (req.get('tus-resumable') !== TUS_RESUMABLE) {
    res.set('Tus-Version', TUS_RESUMABLE);
    throw new ServiceError(
      'upload-version-not-supported',
      `Send the header Tus-Resumable: ${TUS_RESUMABLE}, or use a client of that protocol (tus.io).`,
    );
  }
  if (method === 'PATCH' && req.get('content-type') !== PIECE_TYPE) {
    throw new ServiceError('media-type-not-supported', `Send the bytes as Content-Type: ${PIECE_TYPE}.`);
  }
}

/** Without the body: the store reads that itself, without the web streams in between. */
function asWebRequest(method: string, req: Request<{ id?: string }>, id: string): globalThis.Request {
  const headers = new Headers();
  for (const name of HEADERS) {
    const value = req.get(name);
    if (value !== undefined) headers.set(name, value);
  }
  const path = method === 'POST' ? PATH : `${PATH}/${id}`;
  return new globalThis.Request(`http://tus.invalid${path}`, { method, headers });
}

/** Only pages of our own origin are served: for those, CORS is not needed. */
function isPassedOn(header: string, req: Request<{ id?: string }>): boolean {
  if (header === 'connection') return req.httpVersionMajor === 1;
  return header !== 'content-type' && !header.startsWith('access-control-');
}
