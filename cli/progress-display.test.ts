import { Writable } from 'node:stream';
import { expect, test } from '@jest/globals';
import type { StageProgress } from '../core/job.ts';
import { columnsOf, shorten } from './columns.ts';
import type { Observed } from './progress.ts';
import { createProgressDisplay } from './progress-display.ts';

/** A stream that keeps what is written to it. */
function screen(isTTY: boolean): { stream: NodeJS.WriteStream; written(): string } {
  let written = '';
  const stream = new Writable({
    write(piece, _encoding, done) {
      written += String(piece);
      done();
    },
  });
  return {
    stream: Object.assign(stream, { isTTY, columns: 80, rows: 24 }) as unknown as NodeJS.WriteStream,
    written: () => written,
  };
}

function look(stage: string, percent: number, progress?: StageProgress): Observed {
  return {
    status: 'processing',
    stage,
    progress: {
      percent,
      stages: [{ name: stage, status: 'running', seconds: 1, ...(progress && { progress }) }],
    },
  };
}

const MB = 1_000_000;
const fetched = (done: number, total: number | null = 700 * MB) =>
  look('fetch', 1, { done, total, unit: 'bytes' });

test('lines of several recordings begin with their names, and tell every tenth of a stage that counts', () => {
  const { stream, written } = screen(false);
  const display = createProgressDisplay(stream, { isQuiet: false, names: ['a.mp3', 'b\u001b.mp3'] });
  const a = display.begin('a.mp3');
  const b = display.begin('b\u001b.mp3');
  for (let sent = 0; sent <= 40; sent += 1) a.uploaded(sent * MB, 40 * MB);
  b.uploaded(1_000, 2_000);
  b.uploaded(2_000, 2_000);
  b.look(fetched(0));
  b.look(fetched(60 * MB));
  b.look(fetched(120 * MB));
  b.look(look('decode', 3, { done: 730, total: 4_260, unit: 'seconds' }));
  b.look(fetched(120 * MB, null));
  a.end();
  display.stop();
  const lines = written().trimEnd().split('\n');
  expect(lines.filter((line) => line.startsWith('a.mp3: upload: '))).toHaveLength(10);
  expect(lines).toContain('a.mp3: upload: 4/40 MB');
  expect(lines.filter((line) => line.startsWith('b'))).toEqual([
    'b\ufffd.mp3: upload: 2.0 kB',
    'b\ufffd.mp3: fetch ...',
    'b\ufffd.mp3: fetch: 120/700 MB',
    'b\ufffd.mp3: decode ...',
    'b\ufffd.mp3: decode: 12:10/1:11:00',
    'b\ufffd.mp3: fetch ...',
  ]);
});

test('bars of several recordings carry their names, shortened to fit, and what their stage counts', () => {
  const { stream, written } = screen(true);
  const long = `recordings/2026/${'x'.repeat(80)}/ende.mp3`;
  const display = createProgressDisplay(stream, { isQuiet: false, names: [long, 'b.mp3'] });
  const first = display.begin(long);
  const second = display.begin('b.mp3');
  first.look(fetched(120 * MB));
  second.uploaded(1_500_000, 3 * MB);
  display.note('a note');
  first.note('about the first');
  display.stop();
  const shown = written();
  expect(shown).toMatch(/…x*\/ende\.mp3 {2}fetch +░+ {3}1 % {2}120\/700 MB/);
  expect(shown).toMatch(/b\.mp3 +upload +█+░+ {2}50 % {2}1\.5\/3\.0 MB/);
  expect(shown).toContain('a note\u001b[K\n');
  expect(shown).toContain('/ende.mp3: about the first\u001b[K\n');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what moves the cursor takes no room
  const lines = shown.replace(/\u001b\[[?\d;]*[A-Za-z]/g, '').split('\n');
  const bars = lines.filter((line) => /[█░]/.test(line));
  for (const bar of bars) expect(columnsOf(bar)).toBeLessThanOrEqual(80);
});

test('a bar goes when its recording ends, and the cursor comes back', () => {
  const { stream, written } = screen(true);
  const display = createProgressDisplay(stream, { isQuiet: false, names: ['a.mp3', 'b.mp3'] });
  display.begin('a.mp3').end();
  const before = written().length;
  display.begin('b.mp3').look(look('align', 50));
  display.stop();
  expect(written().slice(before)).not.toContain('a.mp3');
  expect(written()).toContain('\u001b[?25h');
});

test('a name that is too long loses its beginning, by columns', () => {
  expect(shorten('short.mp3', 9)).toBe('short.mp3');
  expect(shorten('recordings/talk.mp3', 9)).toBe('…talk.mp3');
  expect(columnsOf('会議.mp3')).toBe(8);
  expect(shorten('録音会議.mp3', 8)).toBe('…議.mp3');
});
