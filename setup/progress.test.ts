import { expect, test } from '@jest/globals';
import { Progress } from './progress.mjs';
import { PackageCount } from './python-packages.mjs';

function stream(isTTY: boolean) {
  const written: string[] = [];
  return { isTTY, columns: 30, written, write: (text: string) => written.push(text) > 0 };
}

test('where output is not a terminal each step is a line at its start and at its end, and no control character', () => {
  const out = stream(false);
  const step = new Progress(out as never).start('npm packages');
  step.update('3 of 9');
  step.done();
  expect(out.written.join('')).toMatch(/^ {2}npm packages …\n {2}npm packages: done \(\d\.\d s\)\n$/);
});

test('on a terminal the last line is redrawn, never wider than it, and erased at the end', async () => {
  const out = stream(true);
  const progress = new Progress(out as never);
  const [one, two] = [progress.start('one'), progress.start('two, whose name is rather long')];
  one.update('1 of 2');
  await new Promise((resolve) => setTimeout(resolve, 250));
  one.done();
  two.done();
  const drawn = out.written.filter((text) => text.includes('1 of 2'));
  expect(drawn.length).toBeGreaterThan(0);
  expect(drawn.every((text) => text.length < 30)).toBe(true);
  const end = out.written.findIndex((text) => text.startsWith('  two, whose name is rather long: done'));
  expect(out.written[end - 1]).toBe('\r\x1b[K');
});

test("pip's output tells how many packages it has got, and which one it is at", () => {
  const count = new PackageCount([]);
  for (const line of [
    'Collecting typing-extensions==4.16.0 (from -r setup/requirements/cpu.txt (line 9))',
    '  Downloading typing_extensions-4.16.0-py3-none-any.whl (44 kB)',
  ]) {
    count.read(line);
  }
  expect(count.describe(0, 12_000_000)).toBe('downloading, 12 MB');
  count.read('Installing collected packages: typing-extensions');
  expect(count.describe(1, 0)).toBe('installing');
});
