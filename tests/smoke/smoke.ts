import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, type Transcription } from '../../cli/client.ts';
import type { Recording } from '../../cli/recording.ts';
import { sendDirect } from '../../cli/send-direct.ts';
import { sendTus } from '../../cli/send-tus.ts';
import { ApiProblem } from '../../cli/service-errors.ts';
import { mediaTypeOfName } from '../../core/media-types.ts';
import { Transcript } from '../../core/transcript.ts';

export interface SmokeOptions {
  client: Client;
  recording: Recording;
  /** Of the recording, in English. */
  expectedText: RegExp;
  /** One transcription instead of one for each way to upload. */
  isShort: boolean;
  /** How long a transcription may take: a first one waits for an instance, and that for its image and models. */
  timeoutMs: number;
  signal: AbortSignal;
  say(line: string): void;
}

export interface SmokeResult {
  passed: number;
  failed: number;
  skipped: number;
}

/** A check that means nothing here. */
class Skipped extends Error {}

/** It did not answer as it should. */
class Wrong extends Error {}

interface Check {
  title: string;
  isLong?: true;
  /** @returns what else there is to say */
  run(): Promise<string | undefined>;
}

const POLL_MS = 1_000;
const FORMATS: Readonly<Record<string, RegExp>> = {
  srt: /^1\r?\n\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3}\r?\n/,
  vtt: /^WEBVTT\r?\n/,
  tsv: /^start\tend\ttext\r?\n\d+\t\d+\t/,
  txt: /\S/,
};
const OPTIONS = { language: 'en' };

/** Whether a service does from end to end what it is for. Leaves nothing behind. Rejects only when it is interrupted. */
export async function smoke(options: SmokeOptions): Promise<SmokeResult> {
  const { isShort, signal, say } = options;
  const made = new Set<string>();
  const result: SmokeResult = { passed: 0, failed: 0, skipped: 0 };
  try {
    for (const { title, isLong, run } of checks(options, made)) {
      signal.throwIfAborted();
      if (isShort && isLong) continue;
      const startedMs = performance.now();
      const line = (word: string, more?: string) =>
        say(
          `${word.padEnd(8)}${title}${more ? `: ${more}` : ''} (${((performance.now() - startedMs) / 1_000).toFixed(1)} s)`,
        );
      try {
        line('ok', await run());
        result.passed += 1;
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (error instanceof Skipped) {
          say(`skipped ${title}: ${error.message}`);
          result.skipped += 1;
        } else {
          line('FAILED', reasonOf(error));
          result.failed += 1;
        }
      }
    }
  } finally {
    await cleanUp(options.client, made, say);
  }
  return result;
}

function checks(options: SmokeOptions, made: Set<string>): Check[] {
  const { client, recording, expectedText, signal } = options;
  let first: Transcription | undefined;
  const needFirst = (): Transcription => {
    if (first === undefined) throw new Skipped('there is no transcription to look at');
    return first;
  };
  const keep = <T extends { id: string }>(transcription: T): T => {
    made.add(transcription.id);
    return transcription;
  };
  const upload = {
    filename: recording.filename,
    contentType: mediaTypeOfName(recording.filename),
    sizeBytes: recording.sizeBytes,
  };
  const sending = { signal, onProgress: () => {} };

  return [
    {
      title: 'it is alive',
      async run() {
        const { status } = await health(client, '/health/live', signal);
        if (status !== 200) throw new Wrong(`/health/live answers ${status}`);
        const ready = await health(client, '/health/ready', signal);
        return ready.status === 200 ? 'and ready' : `but /health/ready answers ${ready.status}`;
      },
    },
    {
      title: 'a wrong key is refused',
      async run() {
        // Only the key is wrong: what a private service of Cloud Run asks for besides stays.
        const { authorization: _, ...others } = client.authorization;
        const stranger = new Client(client.server, `wrong-${randomUUID()}`, others);
        try {
          await stranger.list({ limit: 1 });
        } catch (error) {
          if (error instanceof ApiProblem && error.problem.status === 401) return undefined;
          throw error;
        }
        if (!('authorization' in client.authorization)) throw new Skipped('the service asks for no key');
        throw new Wrong('it was let in');
      },
    },
    {
      title: 'a recording sent as a form is transcribed',
      async run() {
        const created = keep(await client.create({ ...recording, options: OPTIONS }, { signal }));
        first = await settled(options, created.id);
        return whatItTook(first);
      },
    },
    {
      title: 'every word has its times',
      async run() {
        const transcript = Transcript.parse(
          JSON.parse(await client.transcript(needFirst().id, 'json', signal)),
        );
        if (!expectedText.test(transcript.text)) {
          throw new Wrong(
            `the text is not that of the recording: ${JSON.stringify(transcript.text.slice(0, 200))}`,
          );
        }
        return `${checkWords(transcript)} words, times from ${transcript.words_from}`;
      },
    },
    ...Object.entries(FORMATS).map(
      ([format, beginning]): Check => ({
        title: `the transcript as ${format}`,
        async run() {
          const text = await client.transcript(needFirst().id, format, signal);
          if (beginning.test(text) && text.trim() !== '') return undefined;
          throw new Wrong(`it begins ${JSON.stringify(text.slice(0, 60))}`);
        },
      }),
    ),
    {
      title: 'the same key of idempotency gives the same transcription, of a recording sent in pieces (tus)',
      isLong: true,
      async run() {
        const tus = await client.startTusUpload(upload, signal);
        if (tus === undefined) throw new Skipped('it takes no uploads in pieces');
        const target = {
          server: client.server,
          url: client.tusAddress(tus.upload_id),
          headers: client.authorization,
        };
        await sendTus(target, recording, sending);
        const idempotencyKey = randomUUID();
        const source = { upload_id: tus.upload_id };
        const created = keep(await client.createFrom(source, OPTIONS, { signal, idempotencyKey }));
        const again = keep(await client.createFrom(source, OPTIONS, { signal, idempotencyKey }));
        if (again.id !== created.id) throw new Wrong(`${created.id} and ${again.id} were made`);
        return whatItTook(await settled(options, created.id));
      },
    },
    {
      title: 'a recording sent straight to the bucket',
      isLong: true,
      async run() {
        const direct = await client.startDirectUpload(upload, signal);
        if (direct === undefined) throw new Skipped('it does not offer that');
        const { upload_id, url, headers = {} } = direct;
        await sendDirect({ url, headers, isResumed: false }, recording, sending);
        const created = keep(await client.createFrom({ upload_id }, OPTIONS, { signal }));
        return whatItTook(await settled(options, created.id));
      },
    },
    {
      title: 'one that is canceled stops',
      async run() {
        const { id } = keep(await client.create({ ...recording, options: OPTIONS }, { signal }));
        await client.cancel(id, signal);
        const { status } = await ended(options, id);
        if (status === 'canceled') return undefined;
        // A warm instance may have been faster.
        if (status === 'completed') throw new Skipped('it was completed before');
        throw new Wrong(`it is ${status}`);
      },
    },
    {
      title: 'what is deleted is gone',
      async run() {
        const { id } = needFirst();
        await client.delete(id);
        made.delete(id);
        try {
          await client.get(id, signal);
        } catch (error) {
          if (error instanceof ApiProblem && error.problem.status === 404) return undefined;
          throw error;
        }
        throw new Wrong(`${id} is still there`);
      },
    },
  ];
}

async function health(client: Client, path: string, signal: AbortSignal): Promise<Response> {
  const response = await fetch(`${client.server}${path}`, { headers: client.authorization, signal });
  await response.body?.cancel();
  return response;
}

/** @throws {Wrong} when it did not end well */
async function settled(options: SmokeOptions, id: string): Promise<Transcription> {
  const transcription = await ended(options, id);
  const { status, problem } = transcription;
  if (status === 'completed') return transcription;
  throw new Wrong(`${id} is ${status}${problem === null ? '' : `: ${problem.title}. ${problem.detail}`}`);
}

async function ended({ client, timeoutMs, signal, say }: SmokeOptions, id: string): Promise<Transcription> {
  const deadlineMs = performance.now() + timeoutMs;
  let told = '';
  for (;;) {
    const transcription = await client.get(id, signal);
    const { status, stage, backend } = transcription;
    if (status !== 'queued' && status !== 'processing') return transcription;
    const now = `${status}${stage === null ? '' : `, ${stage}`}${backend === null ? '' : ` on ${backend}`}`;
    if (now !== told) say(`        ${id}: ${now}`);
    told = now;
    if (performance.now() > deadlineMs) {
      throw new Wrong(`${id} is still ${now} after ${Math.round(timeoutMs / 1_000)} s`);
    }
    await delay(POLL_MS, undefined, { signal });
  }
}

/** Which backend did it, and what was waited for. */
function whatItTook({ id, backend, metrics, duration_seconds }: Transcription): string {
  const { queue_seconds, cold_start_seconds, cold_start, processing_seconds } = metrics;
  const seconds = (value: number | null | undefined, what: string) =>
    typeof value === 'number' ? [`${what} ${value.toFixed(1)} s`] : [];
  return [
    `${id} on ${backend ?? 'its own machine'}`,
    ...seconds(duration_seconds, 'audio'),
    ...seconds(queue_seconds, 'queue'),
    ...(cold_start?.instance === 'cold' ? seconds(cold_start_seconds, 'cold start') : ['warm']),
    ...seconds(processing_seconds, 'work'),
    ...(cold_start?.instance === 'cold' ? [`its start: ${partsOf(cold_start)}`] : []),
  ].join(', ');
}

/** As the table in docs/cold-start.md wants them. */
function partsOf(coldStart: object): string {
  return Object.entries(coldStart)
    .flatMap(([name, value]) => (typeof value === 'number' ? [`${name} ${value.toFixed(2)}`] : []))
    .join(' ');
}

/** @returns how many there are. @throws {Wrong} */
function checkWords({ segments }: Transcript): number {
  let count = 0;
  let at = 0;
  for (const { words = [], text } of segments) {
    if (words.length === 0 && text.trim() !== '')
      throw new Wrong(`there are no words in ${JSON.stringify(text)}`);
    for (const { word, start, end } of words) {
      if (!(start >= at && end >= start)) throw new Wrong(`${word} is at ${start} to ${end}, after ${at}`);
      at = start;
      count += 1;
    }
  }
  if (count === 0) throw new Wrong('there are no words');
  return count;
}

function reasonOf(error: unknown): string {
  if (error instanceof ApiProblem) {
    const { status, title, detail } = error.problem;
    return `${status} ${title}. ${detail}`;
  }
  return error instanceof Error ? error.message : String(error);
}

/** Also after an interruption, so without its signal. */
async function cleanUp(client: Client, made: ReadonlySet<string>, say: SmokeOptions['say']): Promise<void> {
  for (const id of made) {
    await client.delete(id).catch((error: unknown) => {
      if (error instanceof ApiProblem && error.problem.status === 404) return;
      say(`        ${id} could not be deleted: ${reasonOf(error)}`);
    });
  }
}
