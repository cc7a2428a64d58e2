import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { noise } from '../tests/support/media.ts';
import { findInputs, type Input, isSingle } from './inputs.ts';
import { outputNames } from './output-names.ts';
import { UsageError } from './usage-error.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'inputs-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function make(...names: string[]): Promise<void> {
  for (const name of names) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), name);
  }
}

const at = (name: string): string => join(folder, name);
const outputs = (inputs: readonly Input[]): string[] => inputs.map(({ outputName }) => outputName);

describe('a folder', () => {
  test('is searched for recordings as a person would list them, without hidden ones and other files', async () => {
    await make('t/10.mp3', 't/9.MP4', 't/notes.txt', 't/9.srt', 't/.old.mp3', 't/.cache/a.mp3', 't/b/a.opus');
    const { inputs, unreadable } = await findInputs([at('t')]);
    expect(outputs(inputs)).toEqual(['9.MP4', '10.mp3', 'b/a.opus']);
    expect(inputs[2]).toMatchObject({ kind: 'file', name: at('t/b/a.opus') });
    expect(unreadable).toEqual([]);
  });

  test('that links lead back to is searched once', async () => {
    await make('t/a.mp3', 't/deep/b.mp3');
    await symlink('..', at('t/deep/up'));
    await symlink(at('t'), at('t/self'));
    await symlink(at('t/a.mp3'), at('t/deep/same.mp3'));
    await symlink('nowhere', at('t/broken.mp3'));
    expect(outputs((await findInputs([at('t')])).inputs)).toEqual(['a.mp3', 'deep/b.mp3']);
  });

  test('of programs holds no transport streams', async () => {
    await make('t/main.ts', 't/other.mts');
    const stream = noise(1_000);
    for (let packet = 0; packet < 1_000; packet += 188) stream[packet] = 0x47;
    await writeFile(at('t/video.ts'), stream);
    const timed = noise(1_000);
    for (let packet = 4; packet < 1_000; packet += 192) timed[packet] = 0x47;
    await writeFile(at('t/camera.mts'), timed);
    expect(outputs((await findInputs([at('t')])).inputs)).toEqual(['camera.mts', 'video.ts']);
  });

  test('without any is wrong usage', async () => {
    await make('t/notes.txt');
    await expect(findInputs([at('t')])).rejects.toThrow(UsageError);
  });

  const isRoot = process.getuid?.() === 0;
  const testUnlessRoot = isRoot ? test.skip : test;
  testUnlessRoot(`tells what in it cannot be read${isRoot ? ' – root reads everything' : ''}`, async () => {
    await make('t/a.mp3', 't/closed/b.mp3');
    await chmod(at('t/closed'), 0);
    const { inputs, unreadable } = await findInputs([at('t')]);
    await chmod(at('t/closed'), 0o700);
    expect(outputs(inputs)).toEqual(['a.mp3']);
    expect(unreadable).toEqual([{ name: at('t/closed'), reason: expect.stringContaining('EACCES') }]);
  });
});

describe('a pattern', () => {
  test('names recordings, whose places it keeps from where it begins to be one', async () => {
    await make('calls/x/1.mp3', 'calls/y/z/2.mp3', 'calls/y/z/2.srt', 'calls/3.wav', 'calls/.h/4.mp3');
    const { inputs } = await findInputs([`${at('calls')}/**/*.{mp3,srt}`]);
    expect(outputs(inputs)).toEqual(['x/1.mp3', 'y/z/2.mp3']);
  });

  test('that is the name of a file means that file', async () => {
    await make('a[1].mp3', 'a1.mp3');
    expect(outputs((await findInputs([at('a[1].mp3')])).inputs)).toEqual(['a[1].mp3']);
  });

  test('never leads out of where it began', async () => {
    await make('x/y/z.mp3', 'up.mp3');
    const { inputs } = await findInputs([`${at('x')}/*/../../up.mp3`]);
    expect(outputs(inputs)).toEqual(['up.mp3']);
  });
});

describe('an address', () => {
  test.each([
    ['https://example.com/a/talk.mp3?token=secret', 'url', 'talk.mp3'],
    ['https://example.com:8443/', 'url', 'example.com-8443'],
    ['https://example.com/..%2f..%2fetc%2fpasswd', 'url', 'passwd'],
    ['https://example.com/%1b%5b2J.mp3', 'url', '[2J.mp3'],
    ['https://example.com/%', 'url', '%'],
    ['HTTPS://example.com/.mp3', 'url', '_mp3'],
    [`https://example.com/${'x'.repeat(300)}.mp3`, 'url', `${'x'.repeat(56)}.mp3`],
    ['gs://bucket/calls/2026?.wav', 'gcs_uri', '2026?.wav'],
  ])('%s is named by its end', async (address, kind, name) => {
    expect((await findInputs([address])).inputs).toEqual([{ kind, address, name, outputName: name }]);
    expect(await isSingle(address)).toBe(true);
  });

  test.each(['http://example.com/a.mp3', 'file:///etc/passwd', 'gs://bucket', 'gs:///x', 'https://'])(
    '%s is refused',
    async (address) => {
      await expect(findInputs([address])).rejects.toThrow(UsageError);
    },
  );
});

test('what is named twice comes once', async () => {
  await make('t/a.mp3');
  const link = 'https://example.com/a.mp3';
  const { inputs } = await findInputs([at('t'), at('t/a.mp3'), link, `${at('t')}/*`, link]);
  expect(inputs).toHaveLength(2);
});

test('only what can be no more than one is single', async () => {
  await make('t/a.mp3');
  expect(await isSingle(at('t'))).toBe(false);
  expect(await isSingle(`${at('t')}/*.mp3`)).toBe(false);
  expect(await isSingle(at('t/a.mp3'))).toBe(true);
  expect(await isSingle(at('nope.mp3'))).toBe(true);
});

describe('names of transcripts', () => {
  const link = (address: string, outputName: string): Input => ({
    kind: 'url',
    address,
    name: outputName,
    outputName,
  });

  test('leave out the extension unless two would be the same', () => {
    const names = ['a.mp3', 'a.wav', 'b.mp3', 'x/a.mp3', 'a.mp3.flac'];
    expect(outputNames(names.map((name) => link(name, name)))).toEqual([
      'a.mp3',
      'a.wav',
      'b',
      'x/a',
      'a.mp3.flac',
    ]);
  });

  test('get a mark of their own where nothing else tells them apart', () => {
    const one = link('https://one.example/a.mp3', 'a.mp3');
    const other = link('https://other.example/a.mp3', 'a.mp3');
    const names = outputNames([one, other]);
    expect(names).toEqual([
      expect.stringMatching(/^a\.mp3-[0-9a-f]{8}$/),
      expect.stringMatching(/^a\.mp3-[0-9a-f]{8}$/),
    ]);
    expect(names[0]).not.toBe(names[1]);
    expect(outputNames([other, one])).toEqual(names.toReversed());
  });
});
