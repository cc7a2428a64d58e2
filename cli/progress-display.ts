import { MultiBar, type SingleBar } from 'cli-progress';
import { isSettled } from '../core/job.ts';
import { clock, formatBytes, type Observed, ProgressReport, RemainingTime, stageLabel } from './progress.ts';

/** Shows the user how far one transcription is. */
export interface ProgressDisplay {
  uploaded(sentBytes: number, totalBytes: number): void;
  look(observed: Observed): void;
  /** A sentence, above the bar if there is one. */
  note(text: string): void;
  stop(): void;
}

export function createProgressDisplay(stream: NodeJS.WriteStream, isQuiet: boolean): ProgressDisplay {
  if (isQuiet) return { uploaded() {}, look() {}, note() {}, stop() {} };
  return stream.isTTY ? new BarDisplay(stream) : new LineDisplay(stream);
}

/** For logs: a line when a stage begins, ends, or has come ten percent further. */
class LineDisplay implements ProgressDisplay {
  readonly #stream: NodeJS.WritableStream;
  readonly #report = new ProgressReport();
  #toldPercent = 0;

  constructor(stream: NodeJS.WritableStream) {
    this.#stream = stream;
  }

  uploaded(sentBytes: number, totalBytes: number): void {
    if (sentBytes === totalBytes) this.note(`upload: ${formatBytes(totalBytes)}`);
  }

  look(observed: Observed): void {
    for (const event of this.#report.look(observed)) {
      const label = stageLabel(event.stage);
      if (event.type === 'finished') this.note(`${label}: done in ${event.seconds.toFixed(1)} s`);
      else if (event.type === 'started') this.note(`${label} ...`);
      else if (event.percent >= this.#toldPercent + 10) {
        this.#toldPercent = event.percent;
        this.note(`${label}: ${Math.floor(event.percent)} % of the whole`);
      }
    }
  }

  note(text: string): void {
    this.#stream.write(`${text}\n`);
  }

  stop(): void {}
}

/** One bar for the whole, named after the stage that runs; finished stages stay above it. */
class BarDisplay implements ProgressDisplay {
  readonly #bars: MultiBar;
  readonly #bar: SingleBar;
  readonly #report = new ProgressReport();
  readonly #remaining = new RemainingTime();
  /** The cursor comes back however the process ends. */
  readonly #stopAtExit = () => this.stop();
  #phase: 'upload' | 'job' = 'upload';
  #startedAtMs = performance.now();

  constructor(stream: NodeJS.WriteStream) {
    this.#bars = new MultiBar({
      stream,
      format: '{stage} {bar} {percent} %  {time}',
      barCompleteChar: '\u2588',
      barIncompleteChar: '\u2591',
      barsize: 30,
      hideCursor: true,
      clearOnComplete: true,
      // Cuts the bar at the edge of the terminal; with `false`, the default, the notes above it would be cut too.
      linewrap: true,
      // Ctrl-C is ours: the bar's own handler would end the process before the job is canceled.
      gracefulExit: false,
    });
    this.#bar = this.#bars.create(100, 0, this.#payload('starting', 0));
    process.once('exit', this.#stopAtExit);
  }

  uploaded(sentBytes: number, totalBytes: number): void {
    const percent = totalBytes === 0 ? 100 : (100 * sentBytes) / totalBytes;
    this.#bar.update(percent, this.#payload('upload', percent));
  }

  look(observed: Observed): void {
    if (this.#phase === 'upload') {
      this.#phase = 'job';
      this.#startedAtMs = performance.now();
    }
    for (const event of this.#report.look(observed)) {
      if (event.type !== 'finished') continue;
      this.note(`  ${stageLabel(event.stage).padEnd(LABEL_WIDTH)} ${event.seconds.toFixed(1)} s`);
    }
    const { percent } = observed.progress;
    const label = isSettled(observed.status) ? observed.status : stageLabel(observed.stage);
    this.#bar.update(percent, this.#payload(label, percent));
  }

  note(text: string): void {
    this.#bars.log(`${text}\n`);
  }

  stop(): void {
    if (!this.#bars.isActive) return;
    process.off('exit', this.#stopAtExit);
    // Notes wait for the next redraw.
    this.#bars.update();
    this.#bars.stop();
  }

  #payload(stage: string, percent: number): { stage: string; percent: string; time: string } {
    const elapsedSeconds = (performance.now() - this.#startedAtMs) / 1000;
    const left = this.#remaining.seconds(stage, percent, elapsedSeconds);
    return {
      stage: stage.padEnd(LABEL_WIDTH),
      percent: String(Math.floor(percent)).padStart(3),
      time: `${clock(elapsedSeconds)}${left === undefined ? '' : `, about ${clock(left)} left`}`,
    };
  }
}

const LABEL_WIDTH = 13;
