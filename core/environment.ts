import { z } from 'zod';

/** The environment is not valid. The message names every wrong variable, one a line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/**
 * Reads the variables of `schema` and no others. A variable set to nothing counts as absent. Only config.ts files
 * call this: everything else gets values.
 * @throws {ConfigError}
 */
export function readEnvironment<T extends z.ZodObject>(schema: T, env: NodeJS.ProcessEnv): z.infer<T> {
  const given = Object.fromEntries(
    Object.keys(schema.shape)
      .map((name) => [name, env[name]] as const)
      .filter(([, value]) => value !== undefined && value !== ''),
  );
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  const lines = result.error.issues.map(
    ({ path, message }) => `  ${path.join('.') || 'the environment'}: ${message}`,
  );
  throw new ConfigError(`The environment is not valid:\n${lines.join('\n')}`);
}

/** Where a service listens. What is said of HOST holds for each in its own way. */
export const LISTEN_ENVIRONMENT = z.object({
  PORT: z.coerce
    .number('must be a port')
    .int('must be a port')
    .min(0, 'must be a port')
    .max(65_535, 'must be a port')
    .default(8_080)
    .describe('The port to listen on; 0 takes any free one; default 8080.'),
  HOST: z
    .string()
    .default('127.0.0.1')
    .describe(
      'The address to listen on; anything but loopback needs API_KEYS (api) or TASK_AUTH (the private services); default 127.0.0.1.',
    ),
});
