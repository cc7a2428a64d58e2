import { access, constants, glob, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { UsageError } from './usage-error.ts';

export interface Recording {
  path: string;
  filename: string;
  sizeBytes: number;
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
  if (info.isDirectory()) throw new UsageError(`${file} is a folder. Name one recording in it.`);
  if (!info.isFile()) throw new UsageError(`${file} is not a regular file.`);
  await access(path, constants.R_OK).catch(() => {
    throw new UsageError(`${file} cannot be read: permission denied.`);
  });
  return { path, filename: basename(path), sizeBytes: info.size };
}

export const SAMPLE_NOTE =
  'No file was named: transcribing the 30 s sample recording of pyannote.audio (two people on the telephone; © CNRS and pyannoteAI, MIT License).';

/** Two speakers, 30 s: it comes inside the Python package pyannote-audio, so it is there once set-up has run. */
export async function sampleRecording(): Promise<Recording> {
  const root = join(import.meta.dirname, '..');
  const places = ['lib/python*', 'Lib'].map(
    (lib) => `.venv/${lib}/site-packages/pyannote/audio/sample/sample.wav`,
  );
  for await (const found of glob(places, { cwd: root })) return await openRecording(join(root, found));
  throw new UsageError(
    'The sample recording is not installed. Run "npm run setup", or name a recording: zeroscribe transcribe FILE',
  );
}
