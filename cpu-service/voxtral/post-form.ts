import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import * as http from 'node:http';
import * as https from 'node:https';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** Networks forget a connection that is silent for ten minutes, and an answer may take that long. */
const TCP_KEEPALIVE_MS = 60_000;

/**
 * Posts a form without holding its files in memory, and waits for the answer as long as `signal` allows: `fetch` gives
 * up after five minutes. `onSent` is called once the last byte is on its way.
 *
 * The signal of the request is not asked. It may be a copy's, which hears of the original only as long as no garbage is
 * collected: nothing else holds what links the two.
 */
export async function postForm(
  request: Request,
  form: FormData,
  { signal, onSent }: { signal: AbortSignal; onSent: () => void },
): Promise<Response> {
  const { body, contentType } = encodeForm(form);
  const { request: start } = request.url.startsWith('https:') ? https : http;
  const sending = start(request.url, {
    method: request.method,
    headers: {
      ...Object.fromEntries(request.headers),
      'Content-Type': contentType,
      'Content-Length': body.size,
    },
    signal,
    // A connection that was idle may be gone by now, and nobody could tell that from a lost answer.
    agent: false,
  });
  sending.once('socket', (socket) => socket.setKeepAlive(true, TCP_KEEPALIVE_MS));
  sending.once('finish', onSent);
  const answered = once(sending, 'response') as Promise<[http.IncomingMessage]>;
  answered.catch(() => {});
  // A server may refuse before it has read everything, and closes the connection then.
  const sent = pipeline(Readable.fromWeb(body.stream() as Parameters<typeof Readable.fromWeb>[0]), sending);
  const [response] = await Promise.race([answered, sent.then(() => answered)]);
  sent.catch(() => {});
  const headers = Object.entries(response.headersDistinct).flatMap(([name, values = []]) =>
    values.map((value): [string, string] => [name, value]),
  );
  return new Response(Readable.toWeb(response) as ReadableStream, {
    status: response.statusCode ?? 500,
    headers,
  });
}

/** RFC 7578. A blob of blobs: what is in files stays there until it is sent. */
function encodeForm(form: FormData): { body: Blob; contentType: string } {
  const boundary = `form-${randomUUID()}`;
  const parts: (Blob | string)[] = [];
  for (const [name, value] of form as Iterable<[string, string | File]>) {
    const disposition = `--${boundary}\r\nContent-Disposition: form-data; name="${name}"`;
    if (typeof value === 'string') {
      parts.push(`${disposition}\r\n\r\n${value}\r\n`);
    } else {
      const type = value.type || 'application/octet-stream';
      parts.push(`${disposition}; filename="${value.name}"\r\nContent-Type: ${type}\r\n\r\n`, value, '\r\n');
    }
  }
  parts.push(`--${boundary}--\r\n`);
  return { body: new Blob(parts), contentType: `multipart/form-data; boundary=${boundary}` };
}
