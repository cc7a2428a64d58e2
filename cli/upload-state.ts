import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { z } from 'zod';
import { makeFolder } from '../core/make-folder.ts';
import type { RecordingFile } from './recording-bytes.ts';
import { writeAtomically } from './write-atomically.ts';

/** An upload that can go on, in this run or a later one. */
const KeptUpload = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('tus'), upload_id: z.string(), expires_at: z.iso.datetime() }),
  z.object({
    kind: z.literal('direct'),
    upload_id: z.string(),
    url: z.url(),
    headers: z.record(z.string(), z.string()),
    expires_at: z.iso.datetime(),
  }),
]);
export type KeptUpload = z.infer<typeof KeptUpload>;

/**
 * What this user has uploaded in part: a file each, so that runs at the same time do not disturb each other.
 * Only their owner can read them, for the address of a direct upload lets anybody write; the key is in none.
 */
export class UploadStates {
  readonly #folder: string;
  readonly #account: readonly string[];

  constructor(
    { server, apiKey = '' }: { server: string; apiKey?: string | undefined },
    folder = stateFolder(process.env),
  ) {
    this.#folder = folder;
    this.#account = [server, apiKey];
  }

  find(file: RecordingFile): KeptUpload | undefined {
    this.#removeExpired();
    return this.#read(this.#pathOf(file));
  }

  /** @returns whether it could be: without a place for it, an upload still works, but only in one run */
  async keep(file: RecordingFile, upload: KeptUpload): Promise<boolean> {
    try {
      makeFolder(this.#folder);
      await writeAtomically(this.#pathOf(file), JSON.stringify(upload), 0o600);
      return true;
    } catch {
      return false;
    }
  }

  forget(file: RecordingFile): void {
    remove(this.#pathOf(file));
  }

  /** Its name says nothing of what it is about, but another file, key or service gives another name. */
  #pathOf({ path, sizeBytes, modifiedMs }: RecordingFile): string {
    const identity = JSON.stringify([...this.#account, path, sizeBytes, modifiedMs]);
    return join(this.#folder, `${createHash('sha256').update(identity).digest('hex').slice(0, 40)}.json`);
  }

  #read(path: string): KeptUpload | undefined {
    try {
      const upload = KeptUpload.parse(JSON.parse(readFileSync(path, 'utf8')));
      return Date.parse(upload.expires_at) > Date.now() ? upload : undefined;
    } catch {
      return undefined;
    }
  }

  #removeExpired(): void {
    let names: string[] = [];
    try {
      names = readdirSync(this.#folder).filter((name) => name.endsWith('.json'));
    } catch {
      // Nothing was ever kept.
    }
    for (const name of names) {
      const path = join(this.#folder, name);
      if (this.#read(path) === undefined) remove(path);
    }
  }
}

function remove(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // It will expire.
  }
}

/** As the XDG Base Directory Specification has it: relative paths count for nothing. */
function stateFolder({ XDG_STATE_HOME = '' }: NodeJS.ProcessEnv): string {
  const base = isAbsolute(XDG_STATE_HOME) ? XDG_STATE_HOME : join(homedir(), '.local', 'state');
  return join(base, 'zeroscribe', 'uploads');
}
