import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { onlyPackage, withoutPackages } from './requirements.mjs';

const folder = join(import.meta.dirname, '..', '..', 'setup', 'requirements');
const read = (name: string) => readFileSync(join(folder, name), 'utf8');
const names = (requirements: string) => requirements.match(/^[\w.-]+(?===)/gm);

test.each(['cpu.txt', 'cuda.txt'])('an image has all packages of %s but the tools of developers', (file) => {
  const kept = withoutPackages(read(file), read('dev.in'));
  expect(names(kept)).toEqual(
    names(read(file))?.filter((name) => !['ruff', 'mypy', 'pytest', 'jiwer'].includes(name)),
  );
  expect(kept).toContain('whisperx==');
  expect(kept.length).toBeLessThan(read(file).length);
});

test('one package comes with its hashes and without those of its neighbours', () => {
  const lines = onlyPackage(read('cpu.txt'), 'imageio-ffmpeg').trim().split('\n');
  expect(lines[0]).toMatch(/^imageio-ffmpeg==[\d.]+ \\$/);
  expect(lines.length).toBeGreaterThan(1);
  for (const line of lines.slice(1)) expect(line).toMatch(/^ {4}--hash=sha256:[0-9a-f]{64}( \\)?$/);
});
