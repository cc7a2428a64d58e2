const HEARTBEAT_MS = 10_000;
const REDRAW_MS = 200;

/**
 * Says what set-up is doing. On a terminal the last line moves; elsewhere each step says when it starts, when it is
 * done, and every ten seconds how far it is.
 */
export class Progress {
  /** @type {Set<Step>} */
  #running = new Set();
  /** @type {NodeJS.Timeout | undefined} */
  #timer;
  #stream;

  constructor(
    /** @type {Pick<NodeJS.WriteStream, 'write' | 'isTTY' | 'columns'>} */ stream = process.stderr,
  ) {
    this.#stream = stream;
  }

  /** @param {string} name */
  start(name) {
    const step = new Step(name, (line) => this.#end(step, line));
    this.#running.add(step);
    if (!this.#stream.isTTY) this.line(`  ${name} …`);
    this.#timer ??= setInterval(() => this.#draw(), this.#stream.isTTY ? REDRAW_MS : HEARTBEAT_MS);
    return step;
  }

  line(/** @type {string} */ text) {
    this.#clear();
    this.#stream.write(`${text}\n`);
  }

  /** After a failure: the steps that were still running are not mentioned again. */
  stop() {
    this.#running.clear();
    this.#clear();
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #end(/** @type {Step} */ step, /** @type {string} */ line) {
    if (!this.#running.delete(step)) return;
    this.line(`  ${line}`);
    if (this.#running.size === 0) this.stop();
  }

  #draw() {
    if (!this.#stream.isTTY) {
      for (const step of this.#running) this.#stream.write(`  ${step.status()}\n`);
      return;
    }
    const text = [...this.#running].map((step) => step.status()).join(' · ');
    this.#clear();
    // A line that wraps could not be erased.
    this.#stream.write(`  ${text}`.slice(0, (this.#stream.columns || 80) - 1));
  }

  #clear() {
    if (this.#stream.isTTY) this.#stream.write('\r\x1b[K');
  }
}

export class Step {
  #startedMs = Date.now();
  #at = '';
  #end;

  constructor(/** @type {string} */ name, /** @type {(line: string) => void} */ end) {
    this.name = name;
    this.#end = end;
  }

  /** How far it is. */
  update(/** @type {string} */ at) {
    this.#at = at;
  }

  done(result = 'done') {
    this.#end(`${this.name}: ${result} (${this.#seconds()} s)`);
  }

  status() {
    return `${this.name}${this.#at === '' ? '' : `: ${this.#at}`} (${this.#seconds()} s)`;
  }

  #seconds() {
    const seconds = (Date.now() - this.#startedMs) / 1000;
    return seconds < 10 ? seconds.toFixed(1) : seconds.toFixed(0);
  }
}
