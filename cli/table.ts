import { columnsOf, padColumns } from './columns.ts';
import { printable } from './printable.ts';

/** A line per row, columns as wide as their widest cell; the last column may be of any length. */
export function table(rows: readonly string[][]): string {
  const shown = rows.map((row) => row.map(printable));
  const widths = (shown[0] ?? []).map((_, column) =>
    Math.max(...shown.map((row) => columnsOf(row[column] ?? ''))),
  );
  return shown.map((row) => `${alignRow(row, widths)}\n`).join('');
}

function alignRow(row: readonly string[], widths: readonly number[]): string {
  return row
    .map((cell, column) => (column === row.length - 1 ? cell : padColumns(cell, widths[column] ?? 0)))
    .join('  ');
}
