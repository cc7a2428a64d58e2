import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import {
  ALIGNMENT_MODELS,
  DIARIZATION_MODEL,
  type ModelSource,
  WHISPER_MODELS,
} from '../setup/model-table.mjs';

const page = readFileSync(join(import.meta.dirname, 'images.md'), 'utf8');
const rows = [...page.matchAll(/^\| (.+) \|$/gm)].map(([, row = '']) => row.split(' | '));

test('the page lists the models of the table, and no others', () => {
  const row = (name: string, source: ModelSource) => [
    name,
    source.repository,
    Math.round(source.sizeBytes / 1e6).toLocaleString('en'),
    source.license,
  ];
  const listed = rows.filter(([, repository]) => /^[\w.-]+\/[\w.-]+$/.test(repository ?? ''));
  expect(listed.map((cells) => cells.slice(0, 4))).toEqual([
    ...Object.entries({ ...WHISPER_MODELS, ...ALIGNMENT_MODELS }).map(([name, source]) =>
      row(`\`${name}\``, source),
    ),
    row('with `hf_token`', DIARIZATION_MODEL),
  ]);
});

test('it says of each whose sums they are', () => {
  for (const [name, { sha256 }] of Object.entries({ ...WHISPER_MODELS, ...ALIGNMENT_MODELS })) {
    const whose = rows.find(([cell]) => cell === `\`${name}\``)?.[4];
    expect({ name, whose }).toEqual({
      name,
      whose: Object.keys(sha256).length > 0 ? 'in the table' : "the hub's",
    });
  }
});

test('it describes the arguments of the Dockerfiles, with their defaults', () => {
  const dockerfile = readFileSync(join(import.meta.dirname, '..', 'Dockerfile.gpu'), 'utf8');
  const args = [...dockerfile.matchAll(/^ARG (\w+)="?([^"\n]*)"?$/gm)];
  expect(args).toHaveLength(5);
  for (const [, name, value] of args) {
    const described = rows.find(([cell]) => cell === `\`${name}\``);
    expect(described).toBeDefined();
    if (name !== 'BASE_IMAGE') expect(described?.[1]).toBe(`\`${value}\``);
  }
});
