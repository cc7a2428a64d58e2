import { glob, realpath, stat } from 'node:fs/promises';
import { basename, relative } from 'node:path';
import { harmlessName } from '../core/harmless-name.ts';
import { percentDecoded } from '../core/percent-decoded.ts';
import { findRecordings, isRecording } from './find-recordings.ts';
import { printable } from './printable.ts';
import { openRecording, type Recording } from './recording.ts';
import { UsageError } from './usage-error.ts';

/** One recording to transcribe: on this machine, or somewhere that the service can fetch it from. */
export type Input = LocalInput | RemoteInput;

interface Named {
  /** As the user is told of it. */
  name: string;
  /** Below the folder for the transcripts, with the extension of the recording. */
  outputName: string;
}

export interface LocalInput extends Named {
  kind: 'file';
  recording: Recording;
}

export interface RemoteInput extends Named {
  kind: 'url' | 'gcs_uri';
  address: string;
}

export interface Inputs {
  inputs: Input[];
  /** What a folder holds but cannot be read. */
  unreadable: { name: string; reason: string }[];
}

/**
 * What the words on the command line mean: files, folders with all that is in them, patterns, links and gs:// addresses.
 * Each recording comes once, however often it is named.
 * @throws {UsageError}
 */
export async function findInputs(words: readonly string[]): Promise<Inputs> {
  const inputs = new Map<string, Input>();
  const unreadable = new Map<string, string>();
  for (const word of words) {
    const found = await readWord(word);
    for (const input of found.inputs) {
      const identity = input.kind === 'file' ? await realpath(input.recording.path) : input.address;
      if (!inputs.has(identity)) inputs.set(identity, input);
    }
    for (const { name, reason } of found.unreadable) unreadable.set(name, reason);
  }
  return {
    inputs: [...inputs.values()],
    unreadable: [...unreadable].map(([name, reason]) => ({ name, reason })),
  };
}

/** Whether this can only be one recording. @throws {UsageError} for an address that is none */
export async function isSingle(word: string): Promise<boolean> {
  if (readAddress(word) !== undefined) return true;
  const info = await stat(word).catch(() => undefined);
  return info === undefined ? !isPattern(word) : !info.isDirectory();
}

async function readWord(word: string): Promise<Inputs> {
  if (word === '') throw new UsageError('The name of the recording is empty.');
  const remote = readAddress(word);
  if (remote !== undefined) return { inputs: [remote], unreadable: [] };
  // A file whose name looks like a pattern is that file.
  const info = await stat(word).catch(() => undefined);
  if (info?.isDirectory()) return await readFolder(word, word);
  if (info !== undefined || !isPattern(word)) {
    return { inputs: [await localInput(word, basename(word))], unreadable: [] };
  }
  return await readPattern(word);
}

async function localInput(path: string, outputName: string): Promise<LocalInput> {
  return { kind: 'file', name: path, outputName, recording: await openRecording(path) };
}

/** Transcripts get the names that the recordings have below `base`. */
async function readFolder(folder: string, base: string): Promise<Inputs> {
  const found = await findRecordings(folder);
  const result = await openAll(found.paths, base);
  result.unreadable.unshift(...found.unreadable.map(({ path, reason }) => ({ name: path, reason })));
  if (result.inputs.length === 0 && result.unreadable.length === 0) {
    throw new UsageError(
      `There are no recordings in ${folder}. Files such as .mp3, .wav or .mp4 are taken; others can be named one by one.`,
    );
  }
  return result;
}

async function readPattern(pattern: string): Promise<Inputs> {
  const base = fixedPart(pattern);
  const paths: string[] = [];
  for await (const match of glob(pattern)) {
    if (await isRecording(match)) paths.push(match);
  }
  if (paths.length === 0) {
    throw new UsageError(`There is no file ${pattern}, and taken as a pattern it names no recordings.`);
  }
  return await openAll(paths.sort(naturally), base);
}

async function openAll(paths: readonly string[], base: string): Promise<Inputs> {
  const result: Inputs = { inputs: [], unreadable: [] };
  for (const path of paths) {
    try {
      const below = relative(base, path);
      // A pattern can lead out of where it began; what is written never does.
      result.inputs.push(await localInput(path, below.startsWith('..') ? basename(path) : below));
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      result.unreadable.push({ name: path, reason: error.message });
    }
  }
  return result;
}

const MAGIC = /[*?[\]{}]|[!+@]\(/;

function isPattern(word: string): boolean {
  return MAGIC.test(word);
}

/** The folder that all matches are in. */
function fixedPart(pattern: string): string {
  const slash = pattern.lastIndexOf('/', pattern.search(MAGIC));
  if (slash < 0) return '.';
  return slash === 0 ? '/' : pattern.slice(0, slash);
}

function naturally(one: string, other: string): number {
  return one.localeCompare(other, 'en', { numeric: true });
}

/** @throws {UsageError} */
function readAddress(word: string): RemoteInput | undefined {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(word)?.[1]?.toLowerCase();
  switch (scheme) {
    case undefined:
      return undefined;
    case 'gs': {
      const [, bucket = '', key = ''] = /^gs:\/\/([^/]+)\/(.+)$/i.exec(word) ?? [];
      if (bucket === '' || key === '') {
        throw new UsageError(`${word} is no object. It must look like gs://bucket/talk.mp3.`);
      }
      return remoteInput('gcs_uri', word, key, bucket);
    }
    case 'https': {
      if (!URL.canParse(word))
        throw new UsageError('A link is not valid. It must look like https://host/path.');
      const { pathname, host } = new URL(word);
      return remoteInput('url', word, percentDecoded(pathname), host);
    }
    default:
      throw new UsageError(`Links begin with https:// or gs://, not with ${printable(scheme ?? '')}://.`);
  }
}

/** Longer ones leave no room for an extension. */
const NAME_LIMIT = 60;

/** Of a link only the path is shown: its query may be what lets people in. */
function remoteInput(kind: RemoteInput['kind'], address: string, path: string, host: string): RemoteInput {
  const whole = harmlessName(path) ?? harmlessName(host.replaceAll(':', '-')) ?? 'recording';
  // Nor is what comes of it hidden.
  const name = whole.slice(-NAME_LIMIT).replace(/^\.+/, '_');
  return { kind, address, name, outputName: name };
}
