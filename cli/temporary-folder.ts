import { globSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ownFolder } from '../standalone/own-folder.ts';

const PREFIX = 'zeroscribe-run-';

/** A data folder that is gone when this process ends, or at the next run if it was killed with SIGKILL. */
export interface TemporaryFolder {
  path: string;
  remove(): void;
}

export function temporaryFolder(): TemporaryFolder {
  removeAbandoned();
  const path = mkdtempSync(join(tmpdir(), PREFIX));
  const remove = () => {
    process.off('exit', remove);
    // A process that is just ending may still write into it.
    rmSync(path, { recursive: true, force: true, maxRetries: 5 });
  };
  process.on('exit', remove);
  return { path, remove };
}

/** Between making the folder and owning it there is a moment. */
const OWNED_WITHIN_MS = 60_000;

/** A run that was killed could not remove its folder, and nobody owns that any more. */
function removeAbandoned(): void {
  for (const path of globSync(join(tmpdir(), `${PREFIX}*`))) {
    try {
      if (Date.now() - statSync(path).ctimeMs < OWNED_WITHIN_MS) continue;
      ownFolder(path)();
      rmSync(path, { recursive: true, force: true });
    } catch {
      // Somebody works in it, or it is another user's.
    }
  }
}
