import type { MachineFacts } from './machine.ts';

/** As Markdown, ready for docs/performance.md. The first row names the columns. */
export function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  for (const row of [head, head.map(() => '---'), ...rows]) console.log(`| ${row.join(' | ')} |`);
}

/** The line above the tables. */
export function printFacts(facts: MachineFacts): void {
  const parts = Object.entries(facts).map(([name, value]) => `${name}: ${value}`);
  console.log(`${parts.join(' · ')}\n`);
}
