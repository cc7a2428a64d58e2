import type { EnvironmentInput } from '../environment.ts';

/** A place to try everything in, small enough for the quotas of a new project. At rest it costs what is stored. */
export default {
  // The project is taken from PROJECT or gcloud's configuration.
  region: 'europe-west1',
  prefix: 'zeroscribe-staging',

  images: {
    whisperModels: ['large-v3-turbo'],
    alignmentLanguages: ['de', 'en', 'es', 'fr'],
  },

  backends: [
    {
      kind: 'cloud-run-service',
      name: 'gpu',
      // Of the 40 GiB that a new project may have in a region, so that the job beside it finds room too. 8x32 has more
      // room for long recordings with many speakers.
      shape: '4x16',
      maxRunning: 1,
      claimTimeoutSeconds: 900,
    },
    { kind: 'cloud-run-job', name: 'gpu-job', shape: '4x16', maxRunning: 1, claimTimeoutSeconds: 900 },
    { kind: 'vertex-job', name: 'vertex', strategy: 'SPOT', maxRunning: 1 },
    // The tier standard, which needs an account at Mistral: deploy/backends/voxtral.
    // { kind: 'voxtral', name: 'voxtral' },
  ],

  api: { maxInstances: 2 },
  cpuService: { maxInstances: 1 },

  secrets: {
    apiKeys: 'zeroscribe-staging-api-keys',
    urlSigningKey: 'zeroscribe-staging-url-signing-key',
    // Not made while no backend needs it.
    mistralApiKey: 'zeroscribe-staging-mistral-api-key',
    // Without it there are no speakers: the diarization model is given to registered users only.
    hfToken: 'zeroscribe-staging-hf-token',
  },

  storage: { mediaDays: 30 },
} satisfies EnvironmentInput;
