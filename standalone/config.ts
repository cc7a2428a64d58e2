import { resolve } from 'node:path';
import { z } from 'zod';
import { type ApiConfig, readApiConfig } from '../api/config.ts';
import { CLOUD_STORAGE_ENVIRONMENT } from '../core/cloud-storage/open-cloud-storage.ts';
import { readCostSettings, readSpendLimit } from '../core/costs/cost-settings.ts';
import { readEnvironment, readLogLevel, readTogether } from '../core/environment.ts';
import { type Installation, readInstallation } from '../core/installation.ts';
import { type MistralConfig, readMistralConfig } from '../cpu-service/voxtral/config.ts';
import { type GpuConfig, readGpuConfig } from '../gpu-service/config.ts';

export const STANDALONE_ENVIRONMENT = z.object({
  DATA_DIR: z
    .string()
    .default('./data')
    .describe('Folder for recordings, transcripts and the job database; default `./data`.'),
  ...CLOUD_STORAGE_ENVIRONMENT.shape,
});

export interface StandaloneConfig {
  api: ApiConfig;
  gpu: GpuConfig;
  /** For the tier standard, which is not there without it. */
  mistral: MistralConfig | undefined;
  costs: ReturnType<typeof readCostSettings> & ReturnType<typeof readSpendLimit>;
  installation: Installation;
  dataDir: string;
  storageApiEndpoint: string | undefined;
  logLevel: string;
}

/** @throws {ConfigError} */
export function readStandaloneConfig(env: NodeJS.ProcessEnv = process.env): StandaloneConfig {
  const installation = readInstallation();
  const { values, ...services } = readTogether({
    values: () => readEnvironment(STANDALONE_ENVIRONMENT, env),
    api: () => readApiConfig(env),
    gpu: () => readGpuConfig(env, installation),
    mistral: () => readMistralConfig(env),
    costs: () => ({ ...readCostSettings(env), ...readSpendLimit(env) }),
    logLevel: () => readLogLevel(env),
  });
  return {
    installation,
    ...services,
    dataDir: resolve(values.DATA_DIR),
    storageApiEndpoint: values.STORAGE_API_ENDPOINT,
  };
}
