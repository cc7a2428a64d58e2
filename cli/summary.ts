import { columnsOf, shorten } from './columns.ts';
import { clock } from './progress.ts';
import { table } from './table.ts';

/** What became of one recording. */
export interface Outcome {
  name: string;
  status: 'done' | 'skipped' | 'failed' | 'left';
  /** Of the audio, where it is known. */
  durationSeconds?: number | null;
  tookSeconds?: number;
  /** Why it failed, or what is to be said of it. */
  remark?: string;
}

const MAX_NAME_COLUMNS = 60;

/** A table of all recordings, and a line that counts them. */
export function summary(outcomes: readonly Outcome[]): string {
  const columns = Math.min(MAX_NAME_COLUMNS, Math.max(...outcomes.map(({ name }) => columnsOf(name))));
  const rows = outcomes.map(({ name, durationSeconds, tookSeconds, status, remark }) => [
    shorten(name, columns),
    durationSeconds == null ? '-' : clock(durationSeconds),
    tookSeconds === undefined ? '-' : clock(tookSeconds),
    remark === undefined ? status : `${status}: ${remark}`,
  ]);
  return `${table([['RECORDING', 'LENGTH', 'TOOK', 'RESULT'], ...rows])}${counts(outcomes)}\n`;
}

function counts(outcomes: readonly Outcome[]): string {
  const parts = (['done', 'skipped', 'failed', 'left'] as const).flatMap((status) => {
    const count = outcomes.filter((outcome) => outcome.status === status).length;
    return count === 0 ? [] : [`${count} ${status}`];
  });
  return `${parts.join(', ')}.`;
}
