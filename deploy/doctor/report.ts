import type { Layout } from '../layout.ts';
import { ALL_CHECKS } from './checks/all-checks.ts';
import type { Facts } from './facts.ts';
import type { Check, Finding, FixCommand, Level } from './finding.ts';

export interface Report {
  checks: { title: string; findings: Finding[] }[];
}

export function examine(facts: Facts, layout: Layout, checks: readonly Check[] = ALL_CHECKS): Report {
  return {
    checks: checks
      .map(({ title, look }) => ({ title, findings: look(facts, layout) }))
      // What cannot be looked at is told by another.
      .filter(({ findings }) => findings.length > 0),
  };
}

export function countOf({ checks }: Report, level: Level): number {
  return checks.flatMap(({ findings }) => findings).filter((finding) => finding.level === level).length;
}

const MARKS: Readonly<Record<Level, string>> = { ok: 'ok', warning: 'warning', problem: 'PROBLEM' };
const MARK_WIDTH = 9;

export function reportText(report: Report): string {
  const parts = report.checks.map(({ title, findings }) =>
    [title, ...findings.map((finding) => indented(findingText(finding)))].join('\n'),
  );
  return `${parts.join('\n')}\n\n${summary(report)}\n`;
}

function findingText({ level, what, why, fix, commands = [] }: Finding): string {
  const indent = ' '.repeat(MARK_WIDTH);
  return [
    `${MARKS[level].padEnd(MARK_WIDTH)}${what}`,
    ...(why === undefined ? [] : [`${indent}why: ${why}`]),
    ...(fix === undefined ? [] : [`${indent}fix: ${fix}`]),
    ...commands.map(({ line }) => `${indent}  $ ${line}`),
  ].join('\n');
}

export function summary(report: Report): string {
  const counted = (level: Level, one: string, many: string) => {
    const count = countOf(report, level);
    return `${count} ${count === 1 ? one : many}`;
  };
  return `${counted('problem', 'problem', 'problems')}, ${counted('warning', 'warning', 'warnings')}, ${countOf(report, 'ok')} ok`;
}

/** What `--fix` may run, each command once. */
export function fixesOf({ checks }: Report): FixCommand[] {
  const all = checks
    .flatMap(({ findings }) => findings)
    .filter(({ level }) => level !== 'ok')
    .flatMap(({ commands = [] }) => commands)
    .filter(({ run }) => run !== undefined);
  return [...new Map(all.map((command) => [command.line, command])).values()];
}

function indented(text: string): string {
  return text.replaceAll(/^/gm, '  ');
}
