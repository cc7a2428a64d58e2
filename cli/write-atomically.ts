import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { join, parse } from 'node:path';

/** Whoever reads `path` sees the old text or the new one, never half; also after a power cut. */
export async function writeAtomically(path: string, text: string, mode = 0o666): Promise<void> {
  const temporary = temporaryName(path);
  try {
    const file = await open(temporary, 'wx', mode);
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
export function temporaryName(path: string): string {
  return join(parse(path).dir, `.zeroscribe-${randomBytes(6).toString('hex')}.tmp`);
}
