import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { ColdStart } from '../core/job.ts';

const page = readFileSync(join(import.meta.dirname, 'cold-start.md'), 'utf8');

test('explains every part that a job records, and no other', () => {
  const section = page.split(/^## /m).find((part) => part.startsWith('What a job records')) ?? '';
  const explained = [...section.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
  expect(explained).toEqual(Object.keys(ColdStart.shape));
});
