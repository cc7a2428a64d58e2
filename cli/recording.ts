import { access, constants, stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { readInstallation } from '../core/installation.ts';
import { sampleRecording } from '../core/sample-recording.ts';
import { UsageError } from './usage-error.ts';

export interface Recording {
  path: string;
  filename: string;
  sizeBytes: number;
  modifiedMs: number;
}

/** @throws {UsageError} unless `file` is a file that can be read */
export async function openRecording(file: string): Promise<Recording> {
  const path = resolve(file);
  const info = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(
      error.code === 'ENOENT' || error.code === 'ENOTDIR'
        ? `There is no file ${file}.`
        : `${file} cannot be read (${error.code}).`,
    );
  });
  if (!info.isFile()) throw new UsageError(`${file} is not a regular file.`);
  await access(path, constants.R_OK).catch(() => {
    throw new UsageError(`${file} cannot be read: permission denied.`);
  });
  return { path, filename: basename(path), sizeBytes: info.size, modifiedMs: info.mtimeMs };
}

export const SAMPLE_NOTE =
  'No file was named: transcribing the 30 s sample recording that pyannote.audio carries (by CNRS and pyannoteAI, MIT License).';

export async function openSampleRecording(): Promise<Recording> {
  return await openRecording(sampleRecording(readInstallation().python));
}
