/** How long something has gone on, with pauses. Of what several do at the same time, each second counts once. */
export class Stopwatch {
  #secondsBefore: number;
  #sinceMs = 0;
  #running = 0;

  constructor(secondsBefore: number) {
    this.#secondsBefore = secondsBefore;
  }

  get isRunning(): boolean {
    return this.#running > 0;
  }

  get seconds(): number {
    const seconds = this.isRunning ? (performance.now() - this.#sinceMs) / 1_000 : 0;
    return this.#secondsBefore + seconds;
  }

  start(): void {
    if (this.#running === 0) this.#sinceMs = performance.now();
    this.#running++;
  }

  stop(): void {
    if (this.#running === 1) this.#secondsBefore = this.seconds;
    this.#running--;
  }
}
