import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** What a platform would start, and as whom. */
export interface ImageConfig {
  user: string;
  workingDir: string;
  env: Record<string, string>;
  command: string[];
}

export interface Layer {
  digest: string;
  bytes: number;
  /** The instruction that made it. */
  made: string;
}

interface Inspection {
  OCIv1: {
    config: {
      User: string;
      WorkingDir: string;
      Env: string[];
      Entrypoint?: string[];
      Cmd?: string[];
    };
    rootfs: { diff_ids: string[] };
    history: { created_by?: string; empty_layer?: boolean }[];
  };
}

/** Builds images without a daemon, in a storage of its own. Needs root. */
export class Buildah {
  readonly #folder: string;
  readonly #containers: string[] = [];

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Gives what it printed. Builds are many lines: they go through. */
  async run(args: string[], { isLoud = false } = {}): Promise<string> {
    const storage = ['--storage-driver', 'overlay', '--root', join(this.#folder, 'storage')];
    const all = [...storage, '--runroot', join(this.#folder, 'run'), ...args];
    const env = { ...process.env, TMPDIR: this.#folder, BUILDAH_ISOLATION: 'chroot' };
    if (!isLoud) {
      const { stdout } = await promisify(execFile)('buildah', all, { env, maxBuffer: 2 ** 26 });
      return stdout.trim();
    }
    const child = spawn('buildah', all, { env, stdio: ['ignore', 'inherit', 'inherit'] });
    const [code] = await once(child, 'exit');
    if (code !== 0) throw new Error(`buildah ${args[0]} ended with ${code}; what it printed says why.`);
    return '';
  }

  /** An image of one layer out of a file system. */
  async import(root: string, name: string): Promise<void> {
    const container = await this.run(['from', 'scratch']);
    const mount = await this.run(['mount', container]);
    await promisify(execFile)('cp', ['-a', '--one-file-system', `${root}/.`, mount]);
    await this.run(['commit', '--quiet', '--rm', container, name]);
  }

  async config(image: string): Promise<ImageConfig> {
    const { config } = (await this.#inspect(image)).OCIv1;
    return {
      user: config.User,
      workingDir: config.WorkingDir,
      env: Object.fromEntries(
        config.Env.map((line) => {
          const [name = '', ...value] = line.split('=');
          return [name, value.join('=')];
        }),
      ),
      command: [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])],
    };
  }

  /** From the base to the last. */
  async layers(image: string): Promise<Layer[]> {
    const { rootfs, history } = (await this.#inspect(image)).OCIv1;
    const known = JSON.parse(
      await readFile(join(this.#folder, 'storage', 'overlay-layers', 'layers.json'), 'utf8'),
    ) as { 'diff-digest'?: string; 'diff-size'?: number }[];
    const made = history.filter(({ empty_layer }) => !empty_layer);
    return rootfs.diff_ids.map((digest, i) => ({
      digest,
      bytes: known.find((layer) => layer['diff-digest'] === digest)?.['diff-size'] ?? 0,
      made: made[i]?.created_by ?? '',
    }));
  }

  /** The file system of the image, with a layer to write in above it. */
  async mount(image: string): Promise<string> {
    const container = await this.run(['from', '--pull-never', image]);
    this.#containers.push(container);
    return await this.run(['mount', container]);
  }

  async has(image: string): Promise<boolean> {
    return await this.run(['images', '--quiet', image]).then(
      (found) => found !== '',
      () => false,
    );
  }

  /** Afterwards nothing is mounted, and the folder can be removed. */
  async close({ isKept = false } = {}): Promise<void> {
    if (this.#containers.length > 0) await this.run(['rm', ...this.#containers]);
    if (isKept) return;
    await this.run(['rm', '--all']);
    await this.run(['rmi', '--all', '--force']);
  }

  async #inspect(image: string): Promise<Inspection> {
    return JSON.parse(await this.run(['inspect', '--type', 'image', image])) as Inspection;
  }
}
