import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

/** What set-up found and installed, so that nobody searches for it again. Written last by set-up: if it is there, all is. */
const Installation = z.object({
  python: z.string(),
  ffmpeg: z.string(),
  device: z.enum(['cpu', 'cuda']),
  packaged_model: z.object({ name: z.string(), path: z.string() }),
});
export type Installation = z.infer<typeof Installation>;

export const REPOSITORY_ROOT = join(import.meta.dirname, '..');

export function readInstallation(root: string = REPOSITORY_ROOT): Installation {
  const path = join(root, '.venv', 'zeroscribe.json');
  try {
    return Installation.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    throw new Error('Zeroscribe is not set up here. Run `npm run setup` first.', { cause: error });
  }
}
