import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { readInstallation, readTools } from './installation.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'installation-'));
  mkdirSync(join(root, '.venv'));
});
afterEach(() => rmSync(root, { recursive: true }));

const write = (installation: object) =>
  writeFileSync(join(root, '.venv', 'zeroscribe.json'), JSON.stringify(installation));

test('an installation with a transcriber is read whole', () => {
  const installation = {
    python: '/venv/bin/python',
    ffmpeg: '/venv/bin/ffmpeg',
    device: 'cpu',
    packaged_model: { name: 'tiny.en', path: '/model' },
  };
  write({ ...installation, models: {}, lock: 'of set-up alone' });
  expect(readInstallation(root)).toEqual(installation);
  expect(readTools(root)).toEqual({ ffmpeg: '/venv/bin/ffmpeg' });
});

test('one with ffmpeg alone serves whoever needs ffmpeg, and says to the others what is missing', () => {
  write({ ffmpeg: '/app/.venv/bin/ffmpeg' });
  expect(readTools(root)).toEqual({ ffmpeg: '/app/.venv/bin/ffmpeg' });
  expect(() => readInstallation(root)).toThrow(/has ffmpeg but no transcriber.*Dockerfile\.gpu/);
});

test('none says how to get one', () => {
  expect(() => readTools(root)).toThrow(/npm run setup/);
  expect(() => readInstallation(root)).toThrow(/^Zeroscribe is not set up here/);
});
