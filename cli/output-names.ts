import { createHash } from 'node:crypto';
import { join, parse } from 'node:path';
import type { Input } from './inputs.ts';

/**
 * What the transcripts of each input are called, below the folder for them and without the extension of the format:
 * the name of the recording without its own; with it, where two would be the same; and where that does not tell them
 * apart, with a mark that this input always gets.
 */
export function outputNames(inputs: readonly Input[]): string[] {
  const levels = inputs.map(() => 0);
  for (;;) {
    const names = inputs.map((input, index) => nameAt(input, levels[index] ?? 0));
    const owners = new Map<string, number[]>();
    for (const [index, name] of names.entries()) {
      const key = foldName(name);
      owners.set(key, [...(owners.get(key) ?? []), index]);
    }
    const raised = [...owners.values()].flatMap((indexes) => raise(indexes, levels));
    if (raised.length === 0) return names;
    for (const index of raised) levels[index] = (levels[index] ?? 0) + 1;
  }
}

const MAX_LEVEL = 2;

/** Of those with one name, who needs another: the ones that have the shortest kind. */
function raise(indexes: readonly number[], levels: readonly number[]): number[] {
  if (indexes.length < 2) return [];
  const least = Math.min(...indexes.map((index) => levels[index] ?? 0));
  return least === MAX_LEVEL ? [] : indexes.filter((index) => levels[index] === least);
}

function nameAt(input: Input, level: number): string {
  const { dir, name, base } = parse(input.outputName);
  if (level === 0) return join(dir, name);
  if (level === 1) return join(dir, base);
  const identity = input.kind === 'file' ? input.recording.path : input.address;
  return join(dir, `${base}-${createHash('sha256').update(identity).digest('hex').slice(0, 8)}`);
}

/** Elsewhere names are the same if they differ in case only. */
function foldName(name: string): string {
  return process.platform === 'linux' ? name : name.normalize('NFC').toLowerCase();
}
