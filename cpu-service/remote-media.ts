import type { Readable } from 'node:stream';

/** Media at another place, opened for reading. Whoever has it reads the body, or destroys it. */
export interface RemoteMedia {
  /** Fails when the connection breaks; with a ServiceError that is not to be retried when the origin misbehaves. */
  body: Readable;
  /** Of the whole, wherever the body begins. */
  sizeBytes: number | null;
  /** Of this content: while it is the same, a body from another place continues this one. null: it cannot be continued. */
  validator: string | null;
  contentType: string | null;
  filename: string | null;
  /** 0 when it was asked to go on but cannot: the origin knows no ranges, or has other content by now. */
  startsAt: number;
}

/** Opens it at `startAt`, as long as it is still the content that `validator` names. */
export type OpenRemote = (from: {
  startAt: number;
  validator: string | null;
  signal: AbortSignal;
}) => Promise<RemoteMedia>;
