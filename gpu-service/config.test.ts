import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { readGpuConfig } from './config.ts';
import { alignmentModels } from './models.ts';

let modelsDir: string;
beforeEach(() => {
  modelsDir = mkdtempSync(join(tmpdir(), 'models-'));
});
afterEach(() => rmSync(modelsDir, { recursive: true }));

const installation = {
  python: 'python',
  ffmpeg: 'ffmpeg',
  device: 'cuda',
  packaged_model: { name: 'tiny.en', path: 'nowhere' },
} as const;

const read = (env: NodeJS.ProcessEnv = {}) => readGpuConfig({ MODELS_DIR: modelsDir, ...env }, installation);

function put(...path: string[]): string {
  const file = join(modelsDir, ...path);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, '');
  return join(file, '..');
}

test('models for word times and speakers are found beside the Whisper models, without being named', () => {
  const german = put('alignment', 'de', 'config.json');
  const pipeline = put('diarization', 'config.yaml');
  expect(alignmentModels(read().alignmentModelDir)).toEqual({ de: german });
  expect(read().diarizationModel).toBe(pipeline);
});

test('where there are none, neither can be asked for', () => {
  mkdirSync(join(modelsDir, 'diarization'));
  expect(alignmentModels(read().alignmentModelDir)).toEqual({});
  expect(read().diarizationModel).toBeUndefined();
});

test('the environment names others', () => {
  put('diarization', 'config.yaml');
  const config = read({ ALIGNMENT_MODEL_DIR: '/elsewhere', DIARIZATION_MODEL: '/pyannote/config.yaml' });
  expect(config.alignmentModelDir).toBe('/elsewhere');
  expect(config.diarizationModel).toBe('/pyannote/config.yaml');
});
