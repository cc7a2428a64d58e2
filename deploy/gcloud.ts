import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { REPOSITORY_ROOT } from '../core/installation.ts';

/** One call of gcloud. Everything that changes something is one of these, so that a plan shows exactly what runs. */
export interface Command {
  args: readonly string[];
  /** On its standard input: secrets come this way, and are in no plan and no file. */
  input?: { shown: string; text(): string };
  /** Files that the arguments name, made of what the command before it printed where that is needed. */
  files?: Record<string, string | ((before: string) => string)>;
  /** Files of this repository that the folder `source` holds. */
  sources?: readonly string[];
  /** Asked again and again until that is so. Throws when it never will be. `before`: what the command before it printed. */
  until?: (output: string, before: string) => boolean;
}

/** As a shell would take it, for reading and copying. */
export function commandLine({ args, input }: Command): string {
  const words = args.map((arg) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`));
  return `gcloud ${words.join(' ')}${input === undefined ? '' : `  < ${input.shown}`}`;
}

export class GcloudError extends Error {
  override readonly name = 'GcloudError';
  readonly command: string;
  /** What gcloud said, whole. */
  readonly output: string;

  constructor(command: string, output: string) {
    super(`${command}\n${output.trim()}`);
    this.command = command;
    this.output = output;
  }
}

export interface GcloudOptions {
  /** Of every command. */
  project?: string;
  /** Beside the process's own environment. */
  env?: Record<string, string>;
  signal?: AbortSignal;
}

/** Each takes about a second of a processor. */
const MAX_RUNNING = 4;
const TIMEOUT_MS = 10 * 60_000;
/** A revision may load long before it is ready, and a bucket be large. */
const LONG_TIMEOUT_MS = 60 * 60_000;
const LONG = /^(?:run (?:services|jobs) replace|storage rm)\b/;

export function timeoutMs({ args }: Command): number {
  return LONG.test(args.join(' ')) ? LONG_TIMEOUT_MS : TIMEOUT_MS;
}

export class Gcloud {
  readonly #options: GcloudOptions;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(options: GcloudOptions = {}) {
    this.#options = options;
  }

  /** @returns what it printed. @throws {GcloudError} */
  async run(command: Command, before = ''): Promise<string> {
    if (this.#running >= MAX_RUNNING) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#running += 1;
    try {
      return await this.#run(command, before);
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse((await this.run({ args: [...args, '--format=json'] })) || 'null');
  }

  /** As `json`, but without what does not exist. */
  async find<T>(...args: string[]): Promise<T | undefined> {
    try {
      return await this.json<T>(...args);
    } catch (error) {
      if (
        error instanceof GcloudError &&
        /NOT_FOUND|not found|could not be found|does not exist/i.test(error.output)
      )
        return undefined;
      throw error;
    }
  }

  async #run({ args, input, files = {}, sources }: Command, before: string): Promise<string> {
    const { project, env, signal } = this.#options;
    const folder = await mkdtemp(join(tmpdir(), 'zeroscribe-deploy-'));
    try {
      for (const [name, content] of Object.entries(files)) {
        await writeFile(join(folder, name), typeof content === 'string' ? content : content(before));
      }
      for (const path of sources ?? []) {
        const target = join(folder, 'source', path);
        await mkdir(dirname(target), { recursive: true });
        await cp(join(REPOSITORY_ROOT, path), target);
      }
      const result = await execa(
        'gcloud',
        project === undefined ? [...args] : [...args, `--project=${project}`],
        {
          cwd: folder,
          env: {
            ...env,
            // What it would ask has been decided by whoever made the command.
            CLOUDSDK_CORE_DISABLE_PROMPTS: '1',
            CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK: '1',
          },
          ...(input === undefined ? { stdin: 'ignore' as const } : { input: input.text() }),
          timeout: timeoutMs({ args }),
          ...(signal !== undefined && { cancelSignal: signal }),
          reject: false,
        },
      );
      if (result.exitCode === 0) return result.stdout;
      const line = commandLine({ args });
      if (result.code === 'ENOENT') {
        throw new GcloudError(
          line,
          'gcloud is not installed. Get it from https://cloud.google.com/sdk/docs/install, then run `gcloud auth login`.',
        );
      }
      if (signal?.aborted) throw signal.reason;
      const output = `${result.stderr}\n${result.stdout}`;
      throw new GcloudError(line, result.timedOut ? `It gave no answer in time.\n${output}` : output);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
}
