import type { Command } from '../gcloud.ts';
import type { Layout } from '../layout.ts';
import type { Facts, Seen } from './facts.ts';

export type Level = 'ok' | 'warning' | 'problem';

/** One thing that was looked at. */
export interface Finding {
  level: Level;
  /** What was found. */
  what: string;
  /** What comes of it. */
  why?: string;
  fix?: string;
  commands?: readonly FixCommand[];
}

export interface FixCommand {
  /** As a user types it. */
  line: string;
  /** What `--fix` runs: only what changes nothing but this environment and can be changed back. */
  run?: Command;
}

/** A part of what the doctor looks at. */
export interface Check {
  title: string;
  look(facts: Facts, layout: Layout): Finding[];
}

export type Remedy = Omit<Finding, 'level' | 'what'>;

export function ok(what: string): Finding {
  return { level: 'ok', what };
}

export function warning(what: string, remedy: Remedy = {}): Finding {
  return { level: 'warning', what, ...remedy };
}

export function problem(what: string, remedy: Remedy = {}): Finding {
  return { level: 'problem', what, ...remedy };
}

/** What can be said where something was seen, and a warning where it was not. */
export function ifSeen<T>(what: string, fact: Seen<T>, look: (value: T) => Finding[]): Finding[] {
  if (fact.isSeen) return look(fact.value);
  return fact.isToldElsewhere ? [] : [warning(`${what} could not be seen`, { why: fact.why })];
}

/** Before the first deploy much is not there, and nothing is wrong with that. */
export function notYet(what: string): Finding {
  return ok(`${what}: not there yet, \`npm run deploy -- up\` makes it`);
}
