import { existsSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 300;

/**
 * Lets one set-up at a time work in a folder. The file names the processes that work there: set-up itself and the npm
 * and pip that it has started, since those go on when set-up alone is killed. It is free once all of them are gone.
 */
export class SetupLock {
  #path;
  /** @type {Map<number, string>} */
  #processes = new Map();

  constructor(/** @type {string} */ path) {
    this.#path = path;
    this.add(process.pid);
  }

  /** Waits until no other set-up works here. `onWait` is called once, with the process that holds it. */
  async acquire(/** @type {(pid: number) => void} */ onWait, /** @type {AbortSignal} */ signal) {
    mkdirSync(dirname(this.#path), { recursive: true });
    for (let hasWaited = false; !this.#take(); ) {
      const holder = readHolder(this.#path);
      const living = holder?.processes.find(([pid, started]) => startOf(pid) === started);
      if (holder !== undefined && living === undefined) {
        this.#discard(holder.text);
        continue;
      }
      if (living !== undefined && !hasWaited) {
        hasWaited = true;
        onWait(living[0]);
      }
      await delay(POLL_MS, undefined, { signal });
    }
  }

  /** From now on the folder is in use until this process is gone too. */
  add(/** @type {number} */ pid) {
    this.#processes.set(pid, startOf(pid) ?? '');
    if (this.isHeld) this.#write(this.#path);
  }

  remove(/** @type {number} */ pid) {
    this.#processes.delete(pid);
    if (this.isHeld) this.#write(this.#path);
  }

  isHeld = false;

  release() {
    if (!this.isHeld) return;
    this.isHeld = false;
    rmSync(this.#path, { force: true });
  }

  #write(/** @type {string} */ path) {
    const draft = `${path}.${process.pid}`;
    writeFileSync(draft, JSON.stringify([...this.#processes]));
    renameSync(draft, path);
  }

  #take() {
    const draft = `${this.#path}.${process.pid}`;
    try {
      // Linked into place whole, so that nobody reads a lock without its owner.
      writeFileSync(draft, JSON.stringify([...this.#processes]));
      linkSync(draft, this.#path);
      this.isHeld = true;
      return true;
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code === 'EEXIST') return false;
      throw error;
    } finally {
      rmSync(draft, { force: true });
    }
  }

  /** Of two that find the same dead lock, only one may remove it: the other would remove its successor. */
  #discard(/** @type {string} */ dead) {
    const aside = `${this.#path}.dead.${process.pid}`;
    try {
      renameSync(this.#path, aside);
      if (readFileSync(aside, 'utf8') !== dead && !existsSync(this.#path)) linkSync(aside, this.#path);
    } catch (error) {
      if (!['ENOENT', 'EEXIST'].includes(/** @type {NodeJS.ErrnoException} */ (error).code ?? ''))
        throw error;
    } finally {
      rmSync(aside, { force: true });
    }
  }
}

/** @returns {{ text: string, processes: [number, string][] } | undefined} */
function readHolder(/** @type {string} */ path) {
  let text;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return { text, processes: JSON.parse(text) };
  } catch {
    return { text, processes: [] };
  }
}

/** When a living process started, where the system says so: its number alone may have been given to another since. */
function startOf(/** @type {number} */ pid) {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EPERM') return undefined;
  }
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name, in brackets, may hold spaces. Of the fields after it, the first is the state and the 20th the start.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return '';
  }
}
