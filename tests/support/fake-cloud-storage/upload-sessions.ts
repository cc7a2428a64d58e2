import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { ApiError, invalid } from './api-error.ts';
import { checkHashes, measure, type ObjectResource, type ObjectStore, writeAll } from './object-store.ts';

/** What a session keeps of a request is a multiple of this, unless it is the end. */
const GRAIN_BYTES = 256 * 1024;
const LIFE_MS = 7 * 24 * 60 * 60 * 1000;

interface Session {
  id: string;
  bucket: string;
  name: string;
  /** With the preconditions. */
  query: string;
  given: Record<string, unknown>;
  /** Said at the start, then it must be so. */
  sizeBytes: number | null;
  /** Of the page that may send to it. */
  origin: string | null;
  startedMs: number;
  state: 'open' | 'canceled' | ObjectResource;
}

export type SessionAnswer = { storedBytes: number } | { object: ObjectResource };

/** Resumable uploads. Their bytes and what is known of them are files: they survive the death of the process. */
export class UploadSessions {
  readonly #store: ObjectStore;
  readonly #folder: string;
  readonly #now: () => number;
  readonly #sessions = new Map<string, Session>();
  readonly #stored = new Map<string, number>();
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(store: ObjectStore, folder: string, now: () => number) {
    this.#store = store;
    this.#folder = join(folder, 'sessions');
    this.#now = now;
    mkdirSync(this.#folder, { recursive: true });
    for (const file of readdirSync(this.#folder)) {
      if (!file.endsWith('.json')) continue;
      const session = JSON.parse(readFileSync(join(this.#folder, file), 'utf8')) as Session;
      this.#sessions.set(session.id, session);
      this.#keepWholeGrains(session);
    }
  }

  /** The names of the objects that would come of those that are open. */
  open(): string[] {
    return [...this.#sessions.values()].filter(({ state }) => state === 'open').map(({ name }) => name);
  }

  /** @returns its id */
  start(start: Omit<Session, 'id' | 'startedMs' | 'state'>): string {
    const session: Session = { ...start, id: crypto.randomUUID(), startedMs: this.#now(), state: 'open' };
    this.#sessions.set(session.id, session);
    this.#stored.set(session.id, 0);
    this.#save(session);
    return session.id;
  }

  find(id: string): Pick<Session, 'bucket' | 'name' | 'query' | 'origin'> | undefined {
    return this.#sessions.get(id);
  }

  cancel(id: string): void {
    const session = this.#get(id);
    if (session.state !== 'open') throw new ApiError(404, 'notFound', 'The upload is not open.');
    this.#end(session, 'canceled');
    rmSync(this.#dataFile(session), { force: true });
  }

  /** `declared`: the checksums in the request's headers. */
  async put(
    id: string,
    contentRange: string | undefined,
    body: AsyncIterable<Uint8Array>,
    declared: { crc32c?: string; md5Hash?: string },
  ): Promise<SessionAnswer> {
    return this.#inTurn(id, async () => {
      const session = this.#get(id);
      if (session.state === 'canceled') throw new ApiError(499, 'clientClosedRequest', 'Upload canceled.');
      const range = parseRange(contentRange);
      if (session.state !== 'open') {
        await drain(body);
        return { object: session.state };
      }
      const stored = this.#stored.get(id) ?? 0;
      if (range.start === undefined) {
        await drain(body);
        if (range.total !== stored || range.total === undefined) return { storedBytes: stored };
        return { object: await this.#finish(session, declared) };
      }
      if (range.start > stored) {
        await drain(body);
        throw invalid(
          `Invalid request. The upload has ${stored} bytes, but the request begins at ${range.start}.`,
        );
      }
      const end = range.start + (await this.#append(session, range.start, body));
      const total = range.isOpen ? (range.total ?? end) : range.total;
      const pinned = session.sizeBytes ?? total;
      if (
        (total !== undefined && (end > total || total !== pinned)) ||
        (pinned !== undefined && end > pinned)
      ) {
        if (end > stored) truncateSync(this.#dataFile(session), stored);
        throw invalid(`Invalid request. The upload was said to have ${pinned} bytes.`);
      }
      if (end === total) return { object: await this.#finish(session, declared) };
      if (end - range.start < GRAIN_BYTES && end > stored) {
        truncateSync(this.#dataFile(session), stored);
        throw invalid(
          'Invalid request.  The number of bytes uploaded is required to be equal or greater than 262144, except for ' +
            "the final request (it's recommended to be the exact multiple of 262144).  The received request contained " +
            `${end - range.start} bytes, which does not meet this requirement.`,
        );
      }
      return { storedBytes: this.#keepWholeGrains(session) };
    });
  }

  /** What the session has already is skipped, not stored twice. @returns how long the body was */
  async #append(session: Session, start: number, body: AsyncIterable<Uint8Array>): Promise<number> {
    const stored = this.#stored.get(session.id) ?? 0;
    let at = start;
    try {
      await using handle = await open(
        this.#dataFile(session),
        existsSync(this.#dataFile(session)) ? 'r+' : 'w',
      );
      for await (const piece of body) {
        const isNew = piece.subarray(Math.min(piece.length, Math.max(0, stored - at)));
        if (isNew.length > 0) await writeAll(handle, isNew, at + piece.length - isNew.length);
        at += piece.length;
      }
    } catch (error) {
      this.#keepWholeGrains(session);
      throw error;
    }
    return at - start;
  }

  async #finish(session: Session, declared: { crc32c?: string; md5Hash?: string }): Promise<ObjectResource> {
    const received = await measure(this.#dataFile(session));
    try {
      checkHashes(received, session.given);
      checkHashes(received, declared);
      const query = new URLSearchParams(session.query);
      const object = this.#store.insert(session.bucket, session.name, session.given, received, query);
      this.#end(session, object);
      return object;
    } catch (error) {
      this.#keepWholeGrains(session);
      throw error;
    }
  }

  #keepWholeGrains(session: Session): number {
    const file = this.#dataFile(session);
    const size = existsSync(file) ? statSync(file).size : 0;
    const stored = size - (size % GRAIN_BYTES);
    if (stored !== size) truncateSync(file, stored);
    this.#stored.set(session.id, stored);
    return stored;
  }

  #end(session: Session, state: Session['state']): void {
    session.state = state;
    this.#stored.delete(session.id);
    this.#save(session);
  }

  #save(session: Session): void {
    writeFileSync(join(this.#folder, `${session.id}.json`), JSON.stringify(session));
  }

  #get(id: string): Session {
    const session = this.#sessions.get(id);
    if (session === undefined) throw new ApiError(404, 'notFound', 'No such upload.');
    if (this.#now() - session.startedMs > LIFE_MS) throw new ApiError(410, 'gone', 'The upload has expired.');
    return session;
  }

  #dataFile({ id }: Session): string {
    return join(this.#folder, `${id}.data`);
  }

  /** Requests of one session, one after the other. */
  async #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(id);
    const turn = (async () => {
      await before?.catch(() => {});
      return work();
    })();
    this.#turns.set(id, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(id) === turn) this.#turns.delete(id);
    }
  }
}

interface ContentRange {
  /** Undefined for a question: where are we? */
  start: number | undefined;
  /** It goes to the end of the request's body, wherever that is. */
  isOpen: boolean;
  total: number | undefined;
}

/** `bytes 0-99/200`, with `*` for a total that is not known yet, an end that is not, or no bytes at all. */
function parseRange(header: string | undefined): ContentRange {
  if (header === undefined) return { start: 0, isOpen: true, total: undefined };
  const match = /^bytes (?:\*|(\d+)-(\d+|\*))\/(\d+|\*)$/.exec(header.trim());
  if (match === null) throw invalid(`Failed to parse Content-Range header: ${header}`);
  const [, start, end, total] = match;
  return {
    start: start === undefined ? undefined : Number(start),
    isOpen: end === '*',
    total: total === '*' ? undefined : Number(total),
  };
}

async function drain(body: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of body);
}
