import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';

/** A recording on disk, and how it was when it was looked at. */
export interface RecordingFile {
  path: string;
  sizeBytes: number;
  /** Undefined: nobody cares whether it changes. */
  modifiedMs?: number;
}

/** The recording cannot be read to its end. */
export class RecordingUnreadable extends Error {
  override readonly name: string = 'RecordingUnreadable';
}

/** What was sent of it before is no part of it any more. */
export class RecordingChanged extends RecordingUnreadable {
  override readonly name = 'RecordingChanged';
}

const PIECE_BYTES = 256 * 1024;

/**
 * The bytes from `start` up to, not including, `end`.
 * @throws {RecordingUnreadable} also when there are fewer: a server would wait for the rest
 * @throws {RecordingChanged} after the last of them, if the file is not what it was
 */
export async function* readRecording(
  file: RecordingFile,
  start: number,
  end: number,
): AsyncGenerator<Buffer> {
  let at = start;
  try {
    if (end > start) {
      for await (const piece of createReadStream(file.path, {
        start,
        end: end - 1,
        highWaterMark: PIECE_BYTES,
      })) {
        yield piece as Buffer;
        at += (piece as Buffer).length;
      }
    }
    await checkUnchanged(file);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === undefined) throw cause;
    throw new RecordingUnreadable(`${file.path} could not be read (${code}).`, { cause });
  }
  if (at < end) throw new RecordingUnreadable(`${file.path} became shorter while it was being uploaded.`);
}

/** @throws {RecordingChanged} if it is not as it was when it was looked at */
export async function checkUnchanged({ path, sizeBytes, modifiedMs }: RecordingFile): Promise<void> {
  if (modifiedMs === undefined) return;
  const now = await stat(path);
  if (now.size !== sizeBytes || now.mtimeMs !== modifiedMs) {
    throw new RecordingChanged(
      `${path} changed while it was being uploaded. Run the command again once it is complete.`,
    );
  }
}
