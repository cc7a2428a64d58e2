// `node bake-models.mjs` in the build of the GPU image: fills /app/models with what the build arguments name.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { SetupFailure } from '../../setup/failure.mjs';
import { readInstallation } from '../../setup/installation.mjs';
import { fetchInto, MODELS } from '../../setup/models.mjs';
import { keepEightBit } from '../../setup/python-packages.mjs';
import { buildStep } from './build-step.mjs';
import { chooseModels } from './choose-models.mjs';

const { WHISPER_MODELS = '', ALIGNMENT_LANGUAGES = '', DIARIZATION = '', HF_TOKEN = '' } = process.env;

await buildStep(async (workshop) => {
  const folder = join(workshop.root, 'models');
  mkdirSync(folder, { recursive: true });
  const isOnCpu = readInstallation(workshop.root)?.device === 'cpu';
  const chosen = chooseModels({
    whisperModels: WHISPER_MODELS,
    alignmentLanguages: ALIGNMENT_LANGUAGES,
    diarization: DIARIZATION,
    hasToken: HF_TOKEN !== '',
  });
  for (const { path, source } of chosen) {
    const fetched = await fetchInto(workshop, join(folder, path), source);
    if ('refused' in fetched)
      throw new SetupFailure(`The model ${path} could not be put into the image: ${fetched.refused}.`);
    if (isOnCpu && Object.hasOwn(MODELS, path)) await keepEightBit(workshop, fetched.path);
  }
  rmSync(join(folder, '.partial'), { recursive: true, force: true });
  if (HF_TOKEN === '')
    workshop.progress.line(
      'Without the build secret hf_token there is no diarization model: jobs cannot ask for speakers.',
    );
});
