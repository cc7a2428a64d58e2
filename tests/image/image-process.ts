import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { waitFor } from '../support/wait-for.ts';
import type { ImageConfig } from './buildah.ts';

/** Prepares what every container has, and becomes the image's command as process 1 of its own. */
const ENTER = `
set -e
root=$1; user=$2; folder=$3; shift 3
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
exec chroot --userspec="$user:$user" "$root" /usr/bin/env -i -C "$folder" "$@"`;

/** A command in the file system of an image: as its user, with its variables, under its init, in the network of this machine. */
export function spawnInImage(root: string, image: ImageConfig, env: Record<string, string>) {
  const variables = Object.entries({ ...image.env, ...env }).map(([name, value]) => `${name}=${value}`);
  const child = spawn(
    'unshare',
    [
      ...['--mount', '--pid', '--fork', '--kill-child', 'sh', '-c', ENTER, 'enter'],
      ...[root, image.user, image.workingDir, ...variables, ...image.command],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  return {
    child,
    /** Of process 1, which unshare itself does not pass signals to. */
    async kill(signal: NodeJS.Signals): Promise<void> {
      const { pid } = child;
      if (pid === undefined) return;
      const init = await waitFor('the process of the image', () => {
        const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
        return children === '' ? undefined : Number(children.split(' ')[0]);
      });
      process.kill(init, signal);
    },
  };
}
