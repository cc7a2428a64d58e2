import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY_ROOT } from '../core/installation.ts';
import type { ImageName } from './layout.ts';

/** What images are built of. A test holds it to the Dockerfiles. */
const SHARED = [
  '.dockerignore',
  '.npmrc',
  'LICENSE',
  'package.json',
  'package-lock.json',
  'LICENSE',
  'tsconfig.json',
  'tsconfig.build.json',
  'api',
  'core',
  'cpu-service',
  'gpu-service',
  'setup',
  'standalone',
  'deploy/images',
];

/** Neither is in an image nor may change it. */
const LEFT_OUT =
  /^(?:node_modules|__pycache__|\.venv|\..*_cache|.*\.egg-info|tests|fake|.*\.test\.ts|.*\.contract\.ts)$/;

/** The files of an image's build, sorted. */
export function imageSources(image: ImageName, root: string = REPOSITORY_ROOT): string[] {
  return [`Dockerfile.${image}`, ...SHARED].flatMap((path) => filesAt(root, path)).sort();
}

function filesAt(root: string, path: string): string[] {
  const found = statSync(join(root, path), { throwIfNoEntry: false });
  if (found === undefined) return [];
  if (!found.isDirectory()) return [path];
  return readdirSync(join(root, path))
    .filter((name) => !LEFT_OUT.test(name))
    .flatMap((name) => filesAt(root, `${path}/${name}`));
}

/**
 * A tag that says what the image is made of: the same sources and choices have the same tag, so what is there already
 * is not built again.
 */
export function imageTag(files: readonly string[], choices: unknown, root: string = REPOSITORY_ROOT): string {
  const hash = createHash('sha256').update(JSON.stringify(choices));
  for (const file of files) {
    const content = createHash('sha256')
      .update(readFileSync(join(root, file)))
      .digest('hex');
    hash.update(`${content} ${file}\n`);
  }
  return hash.digest('hex').slice(0, 16);
}
