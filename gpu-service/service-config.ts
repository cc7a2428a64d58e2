import { readCostSettings } from '../core/costs/cost-settings.ts';
import { readTogether } from '../core/environment.ts';
import { type Installation, readInstallation } from '../core/installation.ts';
import { type PlatformConfig, readPlatformConfig } from '../core/platform.ts';
import {
  type PrivateServiceConfig,
  type RunOnceConfig,
  readPrivateServiceConfig,
  readRunOnceConfig,
} from '../core/private-service.ts';
import { readSourceLimits, type SourceLimits } from '../core/source-limits.ts';
import { type GpuConfig, readBackendName, readGpuConfig } from './config.ts';

export interface GpuServiceConfig {
  /** A process that was started for one task listens to nobody, and so needs to know of no caller. */
  trigger: { push: PrivateServiceConfig } | { once: RunOnceConfig };
  platform: PlatformConfig;
  gpu: GpuConfig;
  sources: SourceLimits;
  costs: ReturnType<typeof readCostSettings>;
  installation: Installation;
  /** Its name. */
  backend: string;
}

/** @throws {ConfigError} */
export function readGpuServiceConfig(env: NodeJS.ProcessEnv): GpuServiceConfig {
  const installation = readInstallation();
  const config = readTogether({
    trigger: () => readTrigger(env),
    platform: () => readPlatformConfig(env),
    gpu: () => readGpuConfig(env, installation),
    sources: () => readSourceLimits(env),
    costs: () => readCostSettings(env),
  });
  return { ...config, installation, backend: readBackendName(env, config.platform.backends) };
}

function readTrigger(env: NodeJS.ProcessEnv): GpuServiceConfig['trigger'] {
  const once = readRunOnceConfig(env);
  return once === undefined ? { push: readPrivateServiceConfig(env) } : { once };
}
