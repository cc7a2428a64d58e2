import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

/** What every service needs. The image of the API has nothing else. */
const Tools = z.object({ ffmpeg: z.string() });
export type Tools = z.infer<typeof Tools>;

/** What set-up found and installed, so that nobody searches for it again. Written last by set-up: if it is there, all is. */
const Installation = Tools.extend({
  python: z.string(),
  device: z.enum(['cpu', 'cuda']),
  packaged_model: z.object({ name: z.string(), path: z.string() }),
});
export type Installation = z.infer<typeof Installation>;

export const REPOSITORY_ROOT = join(import.meta.dirname, '..');

/** Of an installation with or without a transcriber. */
export function readTools(root: string = REPOSITORY_ROOT): Tools {
  return readParts(Tools, root);
}

/** Of an installation that can transcribe. */
export function readInstallation(root: string = REPOSITORY_ROOT): Installation {
  readTools(root);
  return readParts(
    Installation,
    root,
    'This installation has ffmpeg but no transcriber. Run gpu-service from the image of Dockerfile.gpu, or run `npm run setup`.',
  );
}

function readParts<T extends z.ZodType>(
  parts: T,
  root: string,
  otherwise = 'Zeroscribe is not set up here. Run `npm run setup` first.',
): z.infer<T> {
  try {
    return parts.parse(JSON.parse(readFileSync(join(root, '.venv', 'zeroscribe.json'), 'utf8')));
  } catch (error) {
    throw new Error(otherwise, { cause: error });
  }
}
