import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { waitFor } from '../wait-for.ts';

export interface WarmGcloud {
  /** For whoever starts `gcloud`. */
  env: Record<string, string>;
  stop(): Promise<void>;
}

/**
 * The installed gcloud, loaded once: a command then costs a quarter of a second of a processor and not one and a half,
 * which is what makes it possible to break a deployment at every one of its steps in a test.
 */
export async function startWarmGcloud(): Promise<WarmGcloud> {
  const { stdout } = await promisify(execFile)('gcloud', ['info', '--format=json(basic,installation)']);
  const { basic, installation } = JSON.parse(stdout) as {
    basic: { python_location: string };
    installation: { sdk_root: string };
  };
  const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-warm-'));
  const socket = join(folder, 'socket');
  const server = spawn(
    basic.python_location,
    [join(import.meta.dirname, 'warm_gcloud.py'), installation.sdk_root, socket],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const client = join(folder, 'gcloud');
  await writeFile(
    client,
    `#!/bin/sh\nexec ${basic.python_location} -I -S ${join(import.meta.dirname, 'warm_gcloud_client.py')} "$@"\n`,
  );
  await chmod(client, 0o755);
  await waitFor('gcloud to be loaded', () => existsSync(socket));
  return {
    env: { PATH: `${folder}${delimiter}${process.env.PATH}`, WARM_GCLOUD_SOCKET: socket },
    async stop() {
      const ended = new Promise((resolve) => server.once('exit', resolve));
      server.kill();
      await ended;
      await rm(folder, { recursive: true });
    },
  };
}
