import { expect, test } from '@jest/globals';
import { Capabilities } from '../core/capabilities.ts';
import { describeCapabilities } from './capabilities.ts';

const models = {
  models: [{ name: 'small', path: '/models/small', is_multilingual: true, can_translate: true }],
  default_model: 'small',
  because: 'small, because this machine has no CUDA GPU',
};

test('says what the models can do, and not where they lie', () => {
  const capabilities = describeCapabilities(models, {
    alignment_models: { en: '/align/en', de: '/align/de' },
    diarization_model: null,
  });
  expect(Capabilities.parse(capabilities)).toEqual({
    default_model: 'small',
    models: [{ name: 'small', is_multilingual: true, can_translate: true }],
    alignment_languages: ['de', 'en'],
    can_diarize: false,
  });
  expect(JSON.stringify(capabilities)).not.toContain('/');
});

test('can tell speakers apart where a diarization model is configured', () => {
  const configured = { alignment_models: {}, diarization_model: '/pyannote/config.yaml' };
  expect(describeCapabilities(models, configured).can_diarize).toBe(true);
});
