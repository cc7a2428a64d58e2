import { resolve } from 'node:path';
import { z } from 'zod';
import { type ApiConfig, readApiConfig } from '../api/config.ts';
import { readEnvironment, readLogLevel, readTogether } from '../core/environment.ts';
import { type Installation, readInstallation } from '../core/installation.ts';
import { type GpuConfig, readGpuConfig } from '../gpu-service/config.ts';

export const STANDALONE_ENVIRONMENT = z.object({
  DATA_DIR: z
    .string()
    .default('./data')
    .describe('Folder for recordings, transcripts and the job database; default `./data`.'),
});

export interface StandaloneConfig {
  api: ApiConfig;
  gpu: GpuConfig;
  installation: Installation;
  dataDir: string;
  logLevel: string;
}

/** @throws {ConfigError} */
export function readStandaloneConfig(env: NodeJS.ProcessEnv = process.env): StandaloneConfig {
  const installation = readInstallation();
  return {
    installation,
    ...readTogether({
      api: () => readApiConfig(env),
      gpu: () => readGpuConfig(env, installation),
      dataDir: () => resolve(readEnvironment(STANDALONE_ENVIRONMENT, env).DATA_DIR),
      logLevel: () => readLogLevel(env),
    }),
  };
}
