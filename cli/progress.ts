import type { StageProgress } from '../core/job.ts';
import type { Transcription } from './client.ts';

/** What of a transcription shows how far it is. */
export type Observed = Pick<Transcription, 'status' | 'stage' | 'progress'>;

/** What happened between two looks at a transcription. */
export type ProgressEvent =
  | { type: 'started'; stage: string }
  | { type: 'advanced'; stage: string; percent: number }
  | { type: 'finished'; stage: string; seconds: number };

/** Compares each look with the one before, so that every stage is told once, however rare the looks are. */
export class ProgressReport {
  readonly #finished = new Set<string>();
  #stage: string | null = null;
  #percent = 0;

  look({ stage, progress }: Observed): ProgressEvent[] {
    const events: ProgressEvent[] = [];
    for (const { name, status, seconds } of progress.stages) {
      if (status !== 'done' || this.#finished.has(name)) continue;
      this.#finished.add(name);
      events.push({ type: 'finished', stage: name, seconds });
    }
    if (stage !== null && stage !== this.#stage) events.push({ type: 'started', stage });
    else if (stage !== null && progress.percent > this.#percent) {
      events.push({ type: 'advanced', stage, percent: progress.percent });
    }
    this.#stage = stage;
    this.#percent = Math.max(this.#percent, progress.percent);
    return events;
  }
}

/** As it reads: `detect-speech` is `detect speech`. A job without a stage waits for a worker. */
export function stageLabel(stage: string | null): string {
  return stage === null ? 'waiting' : stage.replaceAll('-', ' ');
}

/** Guesses by the speed of the present stage: what came before it, such as loading a model, says nothing. */
export class RemainingTime {
  #stage: string | undefined;
  #fromPercent = 0;
  #fromSeconds = 0;

  /** Undefined while there is too little to go by. */
  seconds(stage: string, percent: number, nowSeconds: number): number | undefined {
    if (stage !== this.#stage) {
      this.#stage = stage;
      this.#fromPercent = percent;
      this.#fromSeconds = nowSeconds;
    }
    const advancedPercent = percent - this.#fromPercent;
    const elapsedSeconds = nowSeconds - this.#fromSeconds;
    if (advancedPercent < 2 || elapsedSeconds < 2) return undefined;
    return (elapsedSeconds / advancedPercent) * (100 - percent);
  }
}

/** `0:07`, `12:40`, `1:02:03`. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = String(whole % 60).padStart(2, '0');
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}

export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const power = Math.min(BYTE_UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** power).toFixed(1)} ${BYTE_UNITS[power]}`;
}

const BYTE_UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** How far the stage that runs is, in what it counts by: `120/700 MB`, `12:10/71:00`; where it does not say, nothing. */
export function stageProgress({ stage, progress }: Observed): StageProgress | undefined {
  return progress.stages.find(({ name, status }) => name === stage && status === 'running')?.progress;
}

export function formatProgress({ done, total, unit }: StageProgress): string {
  if (unit === 'seconds') return total === null ? clock(done) : `${clock(done)}/${clock(total)}`;
  if (total === null) return formatBytes(done);
  // In the unit of the whole, so that the two can be compared.
  const [, unitName = 'B'] = formatBytes(total).split(' ');
  const scale = 1000 ** BYTE_UNITS.indexOf(unitName);
  const digits = total / scale < 10 && scale > 1 ? 1 : 0;
  return `${(done / scale).toFixed(digits)}/${(total / scale).toFixed(digits)} ${unitName}`;
}
