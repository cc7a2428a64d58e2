import { z } from 'zod';
import { type Backend, isVoxtral } from '../../core/backends.ts';
import { ConfigError, readEnvironment } from '../../core/environment.ts';

export const MISTRAL_ENVIRONMENT = z.object({
  MISTRAL_API_KEY: z
    .string()
    .optional()
    .describe(
      'The key of Mistral’s API, for the tier standard: cpu-service needs it with a backend of the kind `voxtral`, the one-machine service has that tier when it is set.',
    ),
  MISTRAL_API_ENDPOINT: z
    .url()
    .optional()
    .describe('Another address of Mistral’s API, such as a proxy; default `https://api.mistral.ai`.'),
});

export interface MistralConfig {
  apiKey: string;
  /** Undefined: the one of the official client. */
  endpoint: string | undefined;
}

/**
 * Nothing where there is no key.
 * @throws {ConfigError}
 */
export function readMistralConfig(env: NodeJS.ProcessEnv): MistralConfig | undefined {
  const { MISTRAL_API_KEY, MISTRAL_API_ENDPOINT } = readEnvironment(MISTRAL_ENVIRONMENT, env);
  return MISTRAL_API_KEY === undefined
    ? undefined
    : { apiKey: MISTRAL_API_KEY, endpoint: MISTRAL_API_ENDPOINT };
}

/** @throws {ConfigError} when there is a backend that nobody could work for */
export function checkMistralConfig(config: MistralConfig | undefined, backends: readonly Backend[]): void {
  const backend = backends.find(isVoxtral);
  if (backend !== undefined && config === undefined) {
    throw new ConfigError(`The backend ${backend.name} is of the kind voxtral and needs MISTRAL_API_KEY.`);
  }
}
