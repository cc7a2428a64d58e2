import { once } from 'node:events';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { selfSigned } from './self-signed.ts';

export interface Origin {
  /** `https://127.0.0.1:<port>` */
  url: string;
  port: number;
  /** Trusting it is trusting the origin. */
  cert: string;
  requests: { url: string; headers: IncomingHttpHeaders }[];
  /** Connections, whether anything was asked through them or not. */
  connections: number;
  close(): Promise<void>;
}

export type Answer = (req: IncomingMessage, res: ServerResponse, nth: number) => void;

/** A web server on loopback that answers the n-th request, counted from 1, as the test says. */
export async function startOrigin(
  answer: Answer,
  certificate: { key: string; cert: string } = selfSigned(),
): Promise<Origin> {
  const server = createServer({ ...certificate, requestTimeout: 0 }, (req, res) => {
    origin.requests.push({ url: req.url ?? '', headers: req.headers });
    res.on('error', () => {});
    answer(req, res, origin.requests.length);
  });
  server.on('connection', () => {
    origin.connections++;
  });
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const origin: Origin = {
    url: `https://127.0.0.1:${port}`,
    port,
    cert: certificate.cert,
    requests: [],
    connections: 0,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return origin;
}

export interface FileAnswer {
  etag?: string;
  type?: string;
  ignoresRange?: boolean;
  /** The connection ends after so many bytes of this answer. */
  cutAfter?: number;
}

/** Answers as a good web server would that has this file, but for what the options say. */
export function sendFile(
  req: IncomingMessage,
  res: ServerResponse,
  file: Buffer,
  { etag = '"1"', type = 'audio/wav', ignoresRange = false, cutAfter }: FileAnswer = {},
): void {
  const asked = /^bytes=(\d+)-$/.exec(req.headers.range ?? '')?.[1];
  const isPart = asked !== undefined && !ignoresRange && req.headers['if-range'] === etag;
  const start = isPart ? Number(asked) : 0;
  const body = file.subarray(start);
  res.writeHead(isPart ? 206 : 200, {
    'content-type': type,
    'content-length': body.length,
    etag,
    ...(isPart ? { 'content-range': `bytes ${start}-${file.length - 1}/${file.length}` } : {}),
  });
  if (cutAfter === undefined || cutAfter >= body.length) res.end(body);
  else res.write(body.subarray(0, cutAfter), () => setTimeout(() => res.destroy(), 20));
}
