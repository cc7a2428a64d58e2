import { expect, test } from '@jest/globals';
import { readStandaloneConfig } from './config.ts';

test('everything that is wrong with the environment is told at once, each thing once and in our own words', () => {
  const read = () =>
    readStandaloneConfig({
      PORT: 'abc',
      MAX_UPLOAD_BYTES: '1e99',
      LOG_LEVEL: 'loud',
      WHISPER_DEVICE: 'tpu',
      SIDECAR_COMMAND: 'python',
    });
  let message = '';
  try {
    read();
  } catch (error) {
    message = (error as Error).message;
  }
  expect(message.split('\n')).toEqual([
    'The environment is not valid:',
    '  PORT: must be a whole number from 0 to 65535',
    '  MAX_UPLOAD_BYTES: must be a whole number from 1 to 9007199254740990',
    '  WHISPER_DEVICE: must be auto, cpu or cuda',
    '  SIDECAR_COMMAND: must be a JSON list of words',
    '  LOG_LEVEL: must be silent, error, warn, info or debug',
  ]);
});
