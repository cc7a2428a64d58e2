import { z } from 'zod';

/** The environment is not valid. The message says everything that is wrong, one a line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly lines: readonly string[];

  constructor(wrong: string | readonly string[]) {
    super(typeof wrong === 'string' ? wrong : `The environment is not valid:\n  ${wrong.join('\n  ')}`);
    this.lines = typeof wrong === 'string' ? [wrong] : wrong;
  }
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
  const result = schema.safeParse(given, { error: inOurWords });
  if (result.success) return result.data;
  // One sentence for each: a number can be too large and not whole at once.
  const wrong = new Map(
    result.error.issues.toReversed().map(({ path, message }) => [path.join('.'), message]),
  );
  const names = Object.keys(schema.shape).filter((name) => wrong.has(name));
  throw new ConfigError(names.map((name) => `${name}: ${wrong.get(name)}`));
}

/**
 * Reads every part of a service's configuration, so that it says at once what is wrong with all of them.
 * @throws {ConfigError}
 */
export function readTogether<T extends Record<string, () => unknown>>(
  parts: T,
): { [Name in keyof T]: ReturnType<T[Name]> } {
  const errors: ConfigError[] = [];
  const values = Object.entries(parts).map(([name, read]) => {
    try {
      return [name, read()];
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      errors.push(error);
      return [name, undefined];
    }
  });
  const [error, ...others] = errors;
  if (error !== undefined && others.length === 0) throw error;
  // Services share variables, such as where they listen.
  if (error !== undefined) throw new ConfigError([...new Set(errors.flatMap(({ lines }) => lines))]);
  return Object.fromEntries(values);
}

/** For what a schema has no message of its own for. */
export const inOurWords: z.core.$ZodErrorMap = (issue) => {
  if (issue.code === 'invalid_type' && issue.input === undefined) return 'is needed';
  if (issue.code === 'invalid_value') return `must be ${list(issue.values.map(String))}`;
  if (issue.code === 'invalid_format' && issue.format === 'url')
    return 'must be an address, such as https://example.com';
  if (issue.code === 'unrecognized_keys') return `there is no ${issue.keys.join(' or ')}`;
  return 'is not valid';
};

function list(words: string[]): string {
  return words.length === 1 ? `${words[0]}` : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}

export function wholeNumber(min: number, max: number) {
  const message = `must be a whole number from ${min} to ${max}`;
  return z.coerce.number(message).int(message).min(min, message).max(max, message);
}

/** Text that `parse` turns into a value. What it throws says after the variable's name what is wrong. */
export function parsed<T>(parse: (text: string) => T) {
  return z.string().transform((text, context): T => {
    try {
      return parse(text);
    } catch (error) {
      context.addIssue((error as Error).message);
      return z.NEVER;
    }
  });
}

/** Where a service listens. What is said of HOST holds for each in its own way. */
export const LISTEN_ENVIRONMENT = z.object({
  PORT: wholeNumber(0, 65_535)
    .default(8_080)
    .describe('The port to listen on; 0 takes any free one; default 8080.'),
  HOST: z
    .string()
    .default('127.0.0.1')
    .describe(
      'The address to listen on; anything but loopback needs API_KEYS (api) or TASK_AUTH (the private services); default 127.0.0.1.',
    ),
});

export const LOG_ENVIRONMENT = z.object({
  LOG_LEVEL: z
    .enum(['silent', 'error', 'warn', 'info', 'debug'])
    .default('info')
    .describe('How much is logged: `silent`, `error`, `warn`, `info` or `debug`; default `info`.'),
});

/** @throws {ConfigError} */
export function readLogLevel(env: NodeJS.ProcessEnv): string {
  return readEnvironment(LOG_ENVIRONMENT, env).LOG_LEVEL;
}
