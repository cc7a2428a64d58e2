import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Refusal } from './refusal.ts';

export interface MachineOptions {
  /** Below which everything is written; other than `/`, no command is run: it is a picture of a machine. */
  root: string;
  /** Says what would be done, and does nothing. */
  isDryRun: boolean;
  say(line: string): void;
}

/** The machine that is being set up. Whatever is as it should be is left alone, and not spoken of. */
export class Machine {
  readonly #options: MachineOptions;
  #changes = 0;

  constructor(options: MachineOptions) {
    this.#options = options;
  }

  /** Of files and folders; commands do not count. */
  get changes(): number {
    return this.#changes;
  }

  /** Files below a folder, and nothing else. */
  get isPicture(): boolean {
    return this.#options.root !== '/';
  }

  get isDryRun(): boolean {
    return this.#options.isDryRun;
  }

  /** Commands are run. */
  get isReal(): boolean {
    return !this.isPicture && !this.#options.isDryRun;
  }

  read(path: string): string | undefined {
    try {
      return readFileSync(this.#at(path), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  folder(path: string, mode: number): void {
    if (modeOf(this.#at(path)) === mode) return;
    this.#change(`make the folder ${path} (mode ${octal(mode)})`, () => {
      mkdirSync(this.#at(path), { recursive: true });
      chmodSync(this.#at(path), mode);
    });
  }

  /** Whole or not at all, and never readable for more people than in the end. */
  file(path: string, content: string, mode: number): void {
    const before = this.read(path);
    if (before === content && modeOf(this.#at(path)) === mode) return;
    const what = before === undefined ? 'write' : before === content ? 'close' : 'change';
    this.#change(`${what} ${path} (mode ${octal(mode)})`, () => {
      const draft = `${this.#at(path)}.new`;
      mkdirSync(dirname(draft), { recursive: true });
      rmSync(draft, { force: true });
      writeFileSync(draft, content, { mode, flag: 'wx' });
      chmodSync(draft, mode);
      renameSync(draft, this.#at(path));
    });
  }

  remove(path: string): void {
    if (modeOf(this.#at(path)) === undefined) return;
    this.#change(`remove ${path}`, () => rmSync(this.#at(path), { recursive: true }));
  }

  /** What a question printed; undefined when it failed or there is no such program. Asked even in a dry run. */
  ask(command: string, ...args: string[]): string | undefined {
    if (this.isPicture) return undefined;
    const { status, stdout } = spawnSync(command, args, { encoding: 'utf8', timeout: 30_000 });
    return status === 0 ? stdout.trim() : undefined;
  }

  /** @throws {Refusal} when it fails */
  run(command: string, ...args: string[]): void {
    this.#options.say(`${this.#prefix}run ${[command, ...args].join(' ')}`);
    if (!this.isReal) return;
    const { status, error } = spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    if (status === 0) return;
    throw new Refusal(
      `\`${[command, ...args].join(' ')}\` failed${error === undefined ? '' : `: ${error.message}`}. What it printed says why; once that is put right, run the installer again.`,
    );
  }

  #change(what: string, make: () => void): void {
    this.#changes += 1;
    this.#options.say(`${this.#prefix}${what}`);
    if (!this.#options.isDryRun) make();
  }

  get #prefix(): string {
    return this.#options.isDryRun ? 'would ' : '';
  }

  #at(path: string): string {
    return join(this.#options.root, path);
  }
}

function modeOf(path: string): number | undefined {
  const mode = statSync(path, { throwIfNoEntry: false })?.mode;
  return mode === undefined ? undefined : mode & 0o7777;
}

const octal = (mode: number) => mode.toString(8).padStart(4, '0');
