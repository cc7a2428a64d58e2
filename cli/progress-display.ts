import { MultiBar, type SingleBar } from 'cli-progress';
import { isSettled } from '../core/job.ts';
import { columnsOf, padColumns, shorten } from './columns.ts';
import { printable } from './printable.ts';
import {
  clock,
  formatBytes,
  formatProgress,
  type Observed,
  ProgressReport,
  RemainingTime,
  stageLabel,
  stageProgress,
} from './progress.ts';

/** Shows the user how far transcriptions are. */
export interface ProgressDisplay {
  /** Shows one more until its `end`. Only where there are several does the name appear. */
  begin(name: string): RecordingProgress;
  /** A sentence, above the bars if there are any. */
  note(text: string): void;
  stop(): void;
}

export interface RecordingProgress {
  uploaded(sentBytes: number, totalBytes: number): void;
  look(observed: Observed): void;
  /** A sentence about this recording. */
  note(text: string): void;
  /** One that is told also to those who want quiet. */
  warn(text: string): void;
  end(): void;
}

export interface DisplaySettings {
  isQuiet: boolean;
  /** Of all recordings that may be shown, if there can be several. */
  names?: readonly string[];
}

export function createProgressDisplay(
  stream: NodeJS.WriteStream,
  { isQuiet, names }: DisplaySettings,
): ProgressDisplay {
  if (!isQuiet && stream.isTTY) return new BarDisplay(stream, names);
  const lines = new LineDisplay(stream, names !== undefined);
  return isQuiet ? quiet(lines) : lines;
}

function quiet(display: ProgressDisplay): ProgressDisplay {
  const nothing = { uploaded() {}, look() {}, note() {}, end() {} };
  return {
    begin(name) {
      const { warn } = display.begin(name);
      return { ...nothing, warn };
    },
    note() {},
    stop() {},
  };
}

/** For logs: a line when a stage begins, ends, or has come ten percent further. */
class LineDisplay implements ProgressDisplay {
  readonly #stream: NodeJS.WritableStream;
  readonly #isMany: boolean;

  constructor(stream: NodeJS.WritableStream, isMany: boolean) {
    this.#stream = stream;
    this.#isMany = isMany;
  }

  begin(name: string): RecordingProgress {
    const prefix = this.#isMany ? `${printable(name)}: ` : '';
    return new Lines((text) => this.note(`${prefix}${text}`));
  }

  note(text: string): void {
    this.#stream.write(`${text}\n`);
  }

  stop(): void {}
}

/** An upload that takes a while tells how far it is. */
const LONG_UPLOAD_BYTES = 16 * 1024 * 1024;

class Lines implements RecordingProgress {
  readonly note: (text: string) => void;
  readonly warn: (text: string) => void;
  readonly #report = new ProgressReport();
  readonly #uploadSteps = new Steps();
  readonly #stageSteps = new Map<string, Steps>();
  readonly #jobSteps = new Steps();

  constructor(note: (text: string) => void) {
    this.note = note;
    this.warn = note;
  }

  uploaded(sentBytes: number, totalBytes: number): void {
    if (sentBytes === totalBytes) this.note(`upload: ${formatBytes(totalBytes)}`);
    else if (totalBytes > LONG_UPLOAD_BYTES && this.#uploadSteps.isNext(sentBytes, totalBytes)) {
      this.note(`upload: ${formatProgress({ done: sentBytes, total: totalBytes, unit: 'bytes' })}`);
    }
  }

  look(observed: Observed): void {
    for (const event of this.#report.look(observed)) {
      const label = stageLabel(event.stage);
      if (event.type === 'finished') this.note(`${label}: done in ${event.seconds.toFixed(1)} s`);
      else if (event.type === 'started') this.note(`${label} ...`);
      else if (this.#jobSteps.isNext(event.percent, 100)) {
        this.note(`${label}: ${Math.floor(event.percent)} % of the whole`);
      }
    }
    const progress = stageProgress(observed);
    if (observed.stage === null || !progress?.total) return;
    const steps = this.#stageSteps.get(observed.stage) ?? new Steps();
    this.#stageSteps.set(observed.stage, steps);
    if (steps.isNext(progress.done, progress.total)) {
      this.note(`${stageLabel(observed.stage)}: ${formatProgress(progress)}`);
    }
  }

  end(): void {}
}

/** Whether it is worth another line. */
class Steps {
  #toldPercent = 0;

  isNext(done: number, total: number): boolean {
    const percent = (100 * done) / total;
    if (percent < this.#toldPercent + 10) return false;
    this.#toldPercent = percent;
    return true;
  }
}

const STAGE_COLUMNS = 13;
/** Percent, times, and what is between the parts. */
const OTHER_COLUMNS = 39;

/** A bar for each transcription that runs, named after its stage; finished stages stay above it. */
class BarDisplay implements ProgressDisplay {
  readonly #bars: MultiBar;
  /** 0: there is only one recording, which needs no name. */
  readonly #nameColumns: number;
  /** The cursor comes back however the process ends. */
  readonly #stopAtExit = () => this.stop();
  readonly #stream: NodeJS.WriteStream;

  constructor(stream: NodeJS.WriteStream, names: readonly string[] | undefined) {
    this.#stream = stream;
    const barColumns = names === undefined ? 30 : 12;
    const room = Math.max(12, stream.columns - barColumns - STAGE_COLUMNS - OTHER_COLUMNS);
    this.#nameColumns =
      names === undefined ? 0 : Math.min(room, Math.max(0, ...names.map((name) => columnsOf(name))));
    this.#bars = new MultiBar({
      stream,
      format: '{name}{stage} {bar} {percent} %  {detail}',
      barCompleteChar: '\u2588',
      barIncompleteChar: '\u2591',
      barsize: barColumns,
      hideCursor: true,
      clearOnComplete: true,
      // Cuts the bar at the edge of the terminal; with `false`, the default, the notes above it would be cut too.
      linewrap: true,
      // A bar may have moved to the line of another.
      forceRedraw: true,
      // Ctrl-C is ours: the bar's own handler would end the process before the job is canceled.
      gracefulExit: false,
    });
    process.once('exit', this.#stopAtExit);
  }

  begin(name: string): RecordingProgress {
    const columns = this.#nameColumns;
    const label = columns === 0 ? '' : `${padColumns(shorten(printable(name), columns), columns)}  `;
    const bar = this.#bars.create(100, 0, { name: label, ...payload('starting', 0, '') });
    return new Bar(bar, {
      note: (text) => this.note(columns === 0 ? text : `${printable(name)}: ${text}`),
      end: () => {
        // Once all have stopped, there is nothing to redraw.
        if (this.#bars.isActive) this.#bars.remove(bar);
      },
    });
  }

  note(text: string): void {
    // Cleared to the end of the line: where the second of two notes goes, a bar has been.
    if (this.#bars.isActive) this.#bars.log(`${text}\u001b[K\n`);
    else this.#stream.write(`${text}\n`);
  }

  stop(): void {
    process.off('exit', this.#stopAtExit);
    if (!this.#bars.isActive) return;
    // Notes wait for the next redraw.
    this.#bars.update();
    this.#bars.stop();
  }
}

class Bar implements RecordingProgress {
  readonly note: (text: string) => void;
  readonly warn: (text: string) => void;
  readonly end: () => void;
  readonly #bar: SingleBar;
  readonly #report = new ProgressReport();
  readonly #remaining = new RemainingTime();
  #phase: 'upload' | 'job' = 'upload';
  #startedAtMs = performance.now();

  constructor(bar: SingleBar, { note, end }: { note(text: string): void; end(): void }) {
    this.#bar = bar;
    this.note = note;
    this.warn = note;
    this.end = end;
  }

  uploaded(sentBytes: number, totalBytes: number): void {
    const percent = totalBytes === 0 ? 100 : (100 * sentBytes) / totalBytes;
    this.#update('upload', percent, formatProgress({ done: sentBytes, total: totalBytes, unit: 'bytes' }));
  }

  look(observed: Observed): void {
    if (this.#phase === 'upload') {
      this.#phase = 'job';
      this.#startedAtMs = performance.now();
    }
    for (const event of this.#report.look(observed)) {
      if (event.type !== 'finished') continue;
      this.note(`  ${stageLabel(event.stage).padEnd(STAGE_COLUMNS)} ${event.seconds.toFixed(1)} s`);
    }
    const label = isSettled(observed.status) ? observed.status : stageLabel(observed.stage);
    const progress = stageProgress(observed);
    this.#update(label, observed.progress.percent, progress && formatProgress(progress));
  }

  #update(stage: string, percent: number, counted: string | undefined): void {
    const elapsedSeconds = (performance.now() - this.#startedAtMs) / 1000;
    const left = this.#remaining.seconds(stage, percent, elapsedSeconds);
    const detail = `${counted ?? clock(elapsedSeconds)}${left === undefined ? '' : `, about ${clock(left)} left`}`;
    this.#bar.update(percent, payload(stage, percent, detail));
  }
}

function payload(
  stage: string,
  percent: number,
  detail: string,
): Record<'stage' | 'percent' | 'detail', string> {
  return { stage: stage.padEnd(STAGE_COLUMNS), percent: String(Math.floor(percent)).padStart(3), detail };
}
