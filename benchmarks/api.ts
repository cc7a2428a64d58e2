import { type ChildProcess, execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import autocannon from 'autocannon';
import type { Answers } from './api-server.ts';
import { type CloudRequests, countCloudRequests } from './count-cloud-requests.ts';
import { machineFacts } from './machine.ts';
import { printTable } from './print-table.ts';
import { writeResults } from './results.ts';

const CLIENTS = [1, 16, 64, 256];
const WARM_UP_SECONDS = 1;
const POINT_SECONDS = 5;
/** The last point, when a server has taken all the memory that it wants for its speed. */
const SOAK = { clients: 64, seconds: 10, readsPerSubmission: 4 };
/** Between two points: what a broken-off request had begun comes to its end. */
const PAUSE_MS = 500;
/** Different ones, so that nobody answers from one place in a cache. */
const TRANSCRIPTIONS = 100;
const KEY = 'a-key-of-the-benchmark';
const HEADERS = { authorization: `Bearer ${KEY}` };
const BOUNDARY = 'benchmark';
const FORM = form();
const FORM_HEADERS = { ...HEADERS, 'content-type': `multipart/form-data; boundary=${BOUNDARY}` };

interface Server {
  name: 'express' | 'zeroscribe';
  url: string;
  process: ChildProcess;
}

/**
 * Submissions of a short recording, and reading what became of them, by 1 to 256 clients at once: the API on one
 * machine beside plain Express that answers the same bytes. The servers take turns, so that neither has the better
 * minutes of the machine; the clients share the machine with them.
 */
export async function benchApi(): Promise<void> {
  const servers: Server[] = [];
  try {
    const ours = await startServer('zeroscribe', [`bench:${KEY}`]);
    servers.push(ours);
    const answers = await collectAnswers(ours.url);
    const plain = await startServer('express', [], answers);
    servers.unshift(plain);
    await requireSameBytes(servers, answers);

    const rows = [];
    for (const { operation, clients, seconds, requests } of points(answers)) {
      for (const server of servers) {
        console.error(`${operation}, ${clients} clients, ${server.name}`);
        const figures = await measure(server, { clients, seconds, requests });
        rows.push({ operation, clients, seconds, server: server.name, ...figures });
      }
    }
    const cloudRequests = await countCloudRequests({ headers: FORM_HEADERS, body: FORM });
    await writeResults('api', { machine: machineFacts(), rows, cloud_requests: cloudRequests });
    print(rows, cloudRequests);
  } finally {
    for (const server of servers) server.process.disconnect();
    await Promise.all(servers.map((server) => once(server.process, 'exit')));
  }
}

async function startServer(name: Server['name'], args: string[], answers?: Answers): Promise<Server> {
  const child = fork(join(import.meta.dirname, 'api-server.ts'), [name, ...args], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    execArgv: ['--expose-gc'],
  });
  if (answers !== undefined) child.send(answers);
  const [{ url }] = (await once(child, 'message')) as [{ url: string }];
  return { name, url, process: child };
}

/** A tenth of a second of silence, as a form. */
function form(): Buffer<ArrayBuffer> {
  const samples = Buffer.alloc(3_200);
  const header = Buffer.alloc(44);
  header.write('RIFF', 0);
  header.writeUInt32LE(36 + samples.length, 4);
  header.write('WAVEfmt ', 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(16_000, 24);
  header.writeUInt32LE(32_000, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write('data', 36);
  header.writeUInt32LE(samples.length, 40);
  return Buffer.concat([
    Buffer.from(
      `--${BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n`,
    ),
    header,
    samples,
    Buffer.from(`\r\n--${BOUNDARY}--\r\n`),
  ]);
}

async function collectAnswers(url: string): Promise<Answers> {
  const transcriptions: Answers['transcriptions'] = [];
  let submitted: Answers['submitted'] | undefined;
  for (let n = 0; n < TRANSCRIPTIONS; n++) {
    const answer = await fetch(`${url}/v1/transcriptions`, {
      method: 'POST',
      headers: FORM_HEADERS,
      body: FORM,
    });
    if (answer.status !== 202) throw new Error(`the submission was answered with ${answer.status}`);
    const body = (await answer.json()) as { id: string };
    submitted ??= { location: answer.headers.get('location') ?? '', body };
    transcriptions.push([body.id, (await read(url, body.id)).body]);
  }
  return { submitted: submitted as Answers['submitted'], transcriptions };
}

async function read(url: string, id: string): Promise<{ text: string; body: object }> {
  const answer = await fetch(`${url}/v1/transcriptions/${id}`, { headers: HEADERS });
  const text = await answer.text();
  if (answer.status !== 200) throw new Error(`the transcription was answered with ${answer.status}: ${text}`);
  return { text, body: JSON.parse(text) };
}

async function requireSameBytes(servers: readonly Server[], { transcriptions }: Answers): Promise<void> {
  for (const [id] of transcriptions) {
    const texts = await Promise.all(servers.map(async ({ url }) => (await read(url, id)).text));
    if (new Set(texts).size !== 1) throw new Error(`the servers give different answers for ${id}`);
  }
}

interface Load {
  clients: number;
  seconds: number;
  requests: autocannon.Request[];
}

function points({ transcriptions }: Answers): ({ operation: string } & Load)[] {
  const reads: autocannon.Request[] = transcriptions.map(([id]) => ({
    method: 'GET',
    path: `/v1/transcriptions/${id}`,
    headers: HEADERS,
  }));
  const submission: autocannon.Request = {
    method: 'POST',
    path: '/v1/transcriptions',
    headers: FORM_HEADERS,
    body: FORM,
  };
  const { readsPerSubmission, ...soak } = SOAK;
  return [
    ...CLIENTS.map((clients) => ({ operation: 'GET', clients, seconds: POINT_SECONDS, requests: reads })),
    ...CLIENTS.map((clients) => ({
      operation: 'POST',
      clients,
      seconds: POINT_SECONDS,
      requests: [submission],
    })),
    { operation: 'both', ...soak, requests: [submission, ...reads.slice(0, readsPerSubmission)] },
  ];
}

async function measure({ url, process }: Server, load: Load) {
  await applyLoad(url, { ...load, seconds: WARM_UP_SECONDS });
  await sleep(PAUSE_MS);
  // What the other server has left for the disk to write would be paid for by the one that waits for its own writes.
  await promisify(execFile)('sync');
  const inUseBefore = await inUseBytes(process);
  await forgetHighest(process);
  const latenciesMs = await applyLoad(url, load);
  await sleep(PAUSE_MS);
  const highest = await highestBytes(process);
  return {
    requests: latenciesMs.length,
    per_second: latenciesMs.length / load.seconds,
    p50_ms: percentile(latenciesMs, 0.5),
    p99_ms: percentile(latenciesMs, 0.99),
    in_use_before_mb: inUseBefore / 1e6,
    in_use_after_mb: (await inUseBytes(process)) / 1e6,
    highest_resident_mb: highest / 1e6,
  };
}

/**
 * How long each answer took, in order; autocannon's own figures are in whole milliseconds.
 * @throws when a request failed, or its answer was no success
 */
async function applyLoad(url: string, { clients, seconds, requests }: Load): Promise<Float64Array> {
  const latenciesMs: number[] = [];
  const result = await new Promise<autocannon.Result>((resolve, reject) => {
    const instance = autocannon(
      { url, connections: clients, duration: seconds, requests },
      (error: unknown, done) => (error ? reject(error) : resolve(done)),
    );
    instance.on('response', (_client, _status, _bytes, latencyMs) => latenciesMs.push(latencyMs));
  });
  const failures = result.errors + result.timeouts + result.non2xx;
  if (failures > 0) {
    const { errors, timeouts, statusCodeStats } = result;
    throw new Error(`not every request succeeded: ${JSON.stringify({ errors, timeouts, statusCodeStats })}`);
  }
  return Float64Array.from(latenciesMs).sort();
}

function percentile(sorted: Float64Array, part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

/** After a collection: what grows here from point to point is never given back. */
async function inUseBytes(server: ChildProcess): Promise<number> {
  server.send('memory');
  const [answer] = (await once(server, 'message')) as [{ inUseBytes: number }];
  return answer.inUseBytes;
}

/** From now on the kernel looks for a new highest value. Linux only. */
function forgetHighest({ pid }: ChildProcess): Promise<void> {
  return writeFile(`/proc/${pid}/clear_refs`, '5');
}

/** Of the resident memory, which also holds what V8 has not collected yet. */
async function highestBytes({ pid }: ChildProcess): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
}

type Row = Omit<Load, 'requests'> & { operation: string; server: string } & Awaited<
    ReturnType<typeof measure>
  >;

function print(rows: readonly Row[], { submission, get }: Record<'submission' | 'get', CloudRequests>): void {
  printTable(
    ['', 'clients', 'server', 'requests/s', 'p50', 'p99', 'memory in use', 'highest resident'],
    rows.map((row) => [
      row.operation,
      String(row.clients),
      row.server === 'express' ? 'plain Express' : 'zeroscribe',
      row.per_second.toFixed(0),
      `${row.p50_ms.toFixed(2)} ms`,
      `${row.p99_ms.toFixed(2)} ms`,
      `${row.in_use_before_mb.toFixed(0)} → ${row.in_use_after_mb.toFixed(0)} MB`,
      `${row.highest_resident_mb.toFixed(0)} MB`,
    ]),
  );
  console.log(`\n${rows.reduce((sum, { requests }) => sum + requests, 0)} requests, none failed.`);
  const list = (counts: CloudRequests) =>
    Object.entries(counts)
      .map(([name, count]) => `${count} × ${name}`)
      .join(', ');
  console.log(`In the cloud a submission is ${list(submission)}; a GET is ${list(get)}.`);
}
