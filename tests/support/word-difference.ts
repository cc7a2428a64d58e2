/** How two texts differ, word by word. Capitals and punctuation are no difference. */
export interface WordDifference {
  /** Words to change, add or leave out, for each word of `expected`. */
  rate: number;
  /** Each with the word that was expected and the one that is there; `–` where there is none. */
  changes: string[];
}

export function wordDifference(expected: string, actual: string): WordDifference {
  const from = words(expected);
  const to = words(actual);
  // Row by row, the cheapest way (Levenshtein's) to have made the first words of one of the first words of the other.
  let above: Edits = to.map((_, i) => [i + 1, to.slice(0, i + 1).map((word) => `– → ${word}`)] as const);
  above.unshift([0, []]);
  for (const expectedWord of from) {
    const row: Edits = [edit(above[0], `${expectedWord} → –`)];
    for (const [j, word] of to.entries()) {
      const diagonal = above[j] as Edit;
      const ways = [
        word === expectedWord ? diagonal : edit(diagonal, `${expectedWord} → ${word}`),
        edit(above[j + 1], `${expectedWord} → –`),
        edit(row[j], `– → ${word}`),
      ];
      row.push(ways.reduce((best, way) => (way[0] < best[0] ? way : best)));
    }
    above = row;
  }
  const [count, changes] = above.at(-1) as Edit;
  return { rate: count / Math.max(1, from.length), changes: [...changes] };
}

type Edit = readonly [count: number, changes: readonly string[]];
type Edits = Edit[];

function edit(before: Edit | undefined, change: string): Edit {
  const [count, changes] = before as Edit;
  return [count + 1, [...changes, change]];
}

function words(text: string): string[] {
  return text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}' ]/gu, ' ')
    .split(/\s+/)
    .filter(Boolean);
}
