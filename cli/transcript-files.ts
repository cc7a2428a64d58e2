import type { Stats } from 'node:fs';
import { mkdir, open, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { FormatName } from '../core/formats/format-options.ts';
import type { Input } from './inputs.ts';
import { outputNames } from './output-names.ts';
import { UsageError } from './usage-error.ts';
import { temporaryName } from './write-atomically.ts';

/** Where a transcript will be written in one format. */
export interface TranscriptFile {
  format: FormatName;
  path: string;
}

/** A recording, and where its transcripts go. */
export interface Plan {
  input: Input;
  files: TranscriptFile[];
  /** All of them are there, and newer than the recording. */
  isDone: boolean;
}

/**
 * Decides where the transcripts go, before any work is spent on them.
 * @throws {UsageError} if that would overwrite a recording or cannot be written
 */
export async function planTranscriptFiles(
  inputs: readonly Input[],
  folder: string,
  formats: readonly FormatName[],
): Promise<Plan[]> {
  const writable = new Set<string>();
  const recordings = new Set<string>();
  const stats = new Map<Input, Stats>();
  for (const input of inputs) {
    if (input.kind !== 'file') continue;
    const info = await stat(input.recording.path);
    stats.set(input, info);
    recordings.add(identity(info));
  }
  await makeWritable(folder, writable);
  const names = outputNames(inputs);
  const plans: Plan[] = [];
  for (const [index, input] of inputs.entries()) {
    const name = resolve(folder, names[index] ?? '');
    await makeWritable(dirname(name), writable);
    const files = formats.map((format) => ({ format, path: `${name}.${format}` }));
    const isDone = await areNewer(files, stats.get(input)?.mtimeMs ?? 0, recordings);
    plans.push({ input, files, isDone });
  }
  return plans;
}

async function areNewer(
  files: readonly TranscriptFile[],
  thanMs: number,
  recordings: ReadonlySet<string>,
): Promise<boolean> {
  let areAll = true;
  for (const { path } of files) {
    const existing = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENAMETOOLONG') return undefined;
      throw new UsageError(`The name ${path} is too long for a file. Rename the recording.`);
    });
    // By identity: a link or a file system that ignores case can give the recording another name.
    if (existing && recordings.has(identity(existing))) {
      throw new UsageError(`${path} is the recording itself. Choose another folder with --out.`);
    }
    if (existing?.isDirectory()) {
      throw new UsageError(`${path} is a folder. Choose another folder with --out.`);
    }
    if (existing === undefined || existing.mtimeMs < thanMs) areAll = false;
  }
  return areAll;
}

const identity = ({ dev, ino }: Stats): string => `${dev}:${ino}`;

async function makeWritable(folder: string, writable: Set<string>): Promise<void> {
  if (writable.has(resolve(folder))) return;
  await mkdir(folder, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(
      error.code === 'EEXIST'
        ? `${folder} is a file, not a folder. Choose another with --out.`
        : `The folder ${folder} cannot be made (${error.code}). Choose another with --out.`,
    );
  });
  const probe = temporaryName(resolve(folder, 'probe'));
  await open(probe, 'wx')
    .then((file) => file.close())
    .catch((error: NodeJS.ErrnoException) => {
      throw new UsageError(`The folder ${folder} cannot be written to (${error.code}).`);
    });
  await rm(probe, { force: true });
  writable.add(resolve(folder));
}
