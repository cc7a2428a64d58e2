import { randomBytes } from 'node:crypto';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { join, parse, resolve } from 'node:path';
import type { FormatName } from '../core/formats/format-options.ts';
import type { Recording } from './recording.ts';
import { UsageError } from './usage-error.ts';

/** Where a transcript will be written in one format. */
export interface TranscriptFile {
  format: FormatName;
  path: string;
}

/**
 * Decides where the transcript of `recording` goes, before any work is spent on it.
 * @throws {UsageError} if that would overwrite the recording or cannot be written
 */
export async function planTranscriptFiles(
  recording: Recording,
  folder: string,
  formats: readonly FormatName[],
): Promise<TranscriptFile[]> {
  await mkdir(folder, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(
      error.code === 'EEXIST'
        ? `${folder} is a file, not a folder. Choose another with --out.`
        : `The folder ${folder} cannot be made (${error.code}). Choose another with --out.`,
    );
  });
  const { name } = parse(recording.filename);
  const files = formats.map((format) => ({ format, path: resolve(folder, `${name}.${format}`) }));
  const source = await stat(recording.path);
  for (const { path } of files) {
    const existing = await stat(path).catch(() => undefined);
    // By identity: a link or a file system that ignores case can give the recording another name.
    if (existing?.ino === source.ino && existing.dev === source.dev) {
      throw new UsageError(`${path} is the recording itself. Choose another folder with --out.`);
    }
    if (existing?.isDirectory()) {
      throw new UsageError(`${path} is a folder. Choose another folder with --out.`);
    }
  }
  const probe = temporaryName(resolve(folder, name));
  await open(probe, 'wx')
    .then((file) => file.close())
    .catch((error: NodeJS.ErrnoException) => {
      throw new UsageError(`The folder ${folder} cannot be written to (${error.code}).`);
    });
  await rm(probe, { force: true });
  return files;
}

/** Whoever reads `path` sees the old text or the new one, never half; also after a power cut. */
export async function writeAtomically(path: string, text: string): Promise<void> {
  const temporary = temporaryName(path);
  try {
    const file = await open(temporary, 'wx');
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** In the same folder, so that the rename stays on one file system; short, so that any name fits beside it. */
function temporaryName(path: string): string {
  return join(parse(path).dir, `.zeroscribe-${randomBytes(6).toString('hex')}.tmp`);
}
