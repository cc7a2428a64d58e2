import type { z } from 'zod';

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
