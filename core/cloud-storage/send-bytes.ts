import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { buffer } from 'node:stream/consumers';

interface Sending {
  method: string;
  headers: Record<string, string>;
  body: Uint8Array;
  signal: AbortSignal;
}

/**
 * As `fetch`, for bodies of megabytes and short answers. `fetch` takes a copy of each body that only a full collection
 * of garbage frees: a long upload would need a hundred megabytes more. Here the bytes themselves are sent, and when
 * this has ended they are not read any more.
 */
export async function sendBytes(url: URL, { method, headers, body, signal }: Sending): Promise<Response> {
  const request = url.protocol === 'https:' ? requestHttps : requestHttp;
  const sending = request(url, {
    method,
    headers: { ...headers, 'content-length': body.length },
    signal,
  });
  try {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      sending.once('response', resolve).on('error', reject).end(body);
    });
    const text = await buffer(answer);
    return new Response(text.length === 0 ? null : text, {
      status: answer.statusCode as number,
      headers: Object.entries(answer.headersDistinct).flatMap(([name, values = []]) =>
        values.map((value): [string, string] => [name, value]),
      ),
    });
  } finally {
    // It was answered before its end.
    if (!sending.writableFinished) sending.destroy();
  }
}
