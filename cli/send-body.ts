import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { Readable } from 'node:stream';

export interface SentBody {
  method: string;
  headers: Record<string, string | number>;
  body?: Readable;
  /** Ends the request when nothing has moved for so long. Default: wait. */
  idleTimeoutMs?: number;
  signal?: AbortSignal;
}

export interface Answer {
  status: number;
  headers: NodeJS.Dict<string | string[]>;
  text: string;
}

/**
 * Streams a body and reads the answer, which may come before the end of the body.
 * Not by `fetch`: it keeps a copy of a streamed body, which for a recording is gigabytes of memory.
 */
export async function sendBody(
  url: string,
  { method, headers, body, idleTimeoutMs = 0, signal }: SentBody,
): Promise<Answer> {
  const request = url.startsWith('https:') ? requestHttps : requestHttp;
  return await new Promise<Answer>((resolve, reject) => {
    const sent = request(url, { method, headers, ...(signal && { signal }) }, async (response) => {
      try {
        let text = '';
        for await (const piece of response.setEncoding('utf8')) text += piece;
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
      } catch (error) {
        reject(error);
      } finally {
        // A refusal comes before the end of the file: the rest is not wanted.
        if (!sent.writableFinished) sent.destroy();
      }
    });
    sent.setTimeout(idleTimeoutMs, () => {
      sent.destroy(Object.assign(new Error('nothing moved'), { code: 'ETIMEDOUT' }));
    });
    sent.once('error', reject);
    if (body === undefined) {
      sent.end();
      return;
    }
    body.once('error', (error) => sent.destroy(error)).pipe(sent);
    sent.once('close', () => body.destroy());
  });
}
