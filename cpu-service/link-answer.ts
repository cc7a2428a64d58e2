import type { IncomingMessage } from 'node:http';
import { harmlessName } from '../core/harmless-name.ts';
import { mediaType, mediaTypeOfName, UNKNOWN_TYPE } from '../core/media-types.ts';
import { percentDecoded } from '../core/percent-decoded.ts';
import { ServiceError } from '../core/problem.ts';

/** A list of addresses, not a recording. */
const PLAYLIST =
  /^(application|audio)\/(x-|vnd\.apple\.)?mpegurl$|^application\/(dash\+xml|vnd\.ms-sstr\+xml)$/;

const MIME_TYPE = /^\s*([\w.+-]+\/[\w.+-]+)\s*(;|$)/;

const MAX_VALIDATOR_LENGTH = 256;

/** @throws {ServiceError} link-failed, when what comes is surely not media */
export function answeredType({ headers }: IncomingMessage, host: string, filename: string | null): string {
  const given = MIME_TYPE.exec(headers['content-type'] ?? '')?.[1]?.toLowerCase() ?? '';
  const type = mediaType(given, filename ?? '');
  if (type !== undefined && !PLAYLIST.test(given)) return type;
  const what = /html/.test(given) ? 'a web page' : PLAYLIST.test(given) ? 'a playlist' : given;
  throw new ServiceError(
    'link-failed',
    `The link leads to ${what}, not to a recording: ${host} may want you to sign in, or shows the file in a page. Use the address of the file itself, or upload it.`,
  );
}

/** What the origin calls the file; or the last part of the link or of where it led, the one that looks like media. */
export function answeredName({ headers }: IncomingMessage, link: URL, ledTo: URL): string | null {
  const given = dispositionName(headers['content-disposition'] ?? '');
  const names = [given, lastPart(link), lastPart(ledTo)].map((name) => harmlessName(name));
  if (names[0] !== null && names[0] !== undefined) return names[0];
  const known = names.find((name) => mediaTypeOfName(name ?? '') !== UNKNOWN_TYPE);
  return known ?? names.find((name) => name !== null) ?? null;
}

/**
 * A strong ETag, or a Last-Modified that is older than the answer and therefore as good (RFC 9110, 8.8.2.2). Only with
 * these is a second half surely one of the same file.
 */
export function strongValidator({ headers }: IncomingMessage): string | null {
  const { etag, 'last-modified': modified, date } = headers;
  if (etag !== undefined && /^"[\x21\x23-\x7e]*"$/.test(etag) && etag.length <= MAX_VALIDATOR_LENGTH)
    return etag;
  if (etag !== undefined || modified === undefined || modified.length > 40) return null;
  return Date.parse(date ?? '') - Date.parse(modified) >= 1_000 ? modified : null;
}

/** Whether a part belongs to the content that was asked for. An origin may leave out what it was told. */
export function isSameContent({ headers }: IncomingMessage, validator: string): boolean {
  const given = validator.startsWith('"') ? headers.etag : headers['last-modified'];
  return given === undefined || given === validator;
}

function dispositionName(header: string): string {
  const encoded = /;\s*filename\*\s*=\s*utf-8'[^';]*'([^;\s]+)/i.exec(header)?.[1];
  if (encoded !== undefined) return percentDecoded(encoded);
  const [, quoted, bare] = /;\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))/i.exec(header) ?? [];
  return asUtf8(quoted?.replace(/\\(.)/g, '$1') ?? bare ?? '');
}

function lastPart({ pathname }: URL): string {
  return percentDecoded(pathname.split('/').at(-1) ?? '');
}

/** Headers are read byte by byte; many origins mean UTF-8. */
export function asUtf8(header: string): string {
  const bytes = Buffer.from(header, 'latin1');
  const text = bytes.toString('utf8');
  return text.includes('\ufffd') ? header : text;
}
