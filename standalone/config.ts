import { resolve } from 'node:path';
import { z } from 'zod';
import { type ApiConfig, readApiConfig } from '../api/config.ts';
import { readEnvironment } from '../core/environment.ts';
import { type Installation, readInstallation } from '../core/installation.ts';
import { type GpuConfig, readGpuConfig } from '../gpu-service/config.ts';

export const STANDALONE_ENVIRONMENT = z.object({
  DATA_DIR: z
    .string()
    .default('./data')
    .describe('Folder for recordings, transcripts and the job database; default `./data`.'),
  LOG_LEVEL: z
    .enum(['silent', 'error', 'warn', 'info', 'debug'])
    .default('info')
    .describe('How much is logged: `silent`, `error`, `warn`, `info` or `debug`; default `info`.'),
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
  const values = readEnvironment(STANDALONE_ENVIRONMENT, env);
  return {
    api: readApiConfig(env),
    gpu: readGpuConfig(env, installation),
    installation,
    dataDir: resolve(values.DATA_DIR),
    logLevel: values.LOG_LEVEL,
  };
}
