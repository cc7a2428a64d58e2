import type { z } from 'zod';
import { ServiceError } from './problem.ts';

/**
 * What a request asks for, by names that a schema knows. The schema's messages go on after "it".
 * @throws {ServiceError} `invalid-option`, naming the first field that is wrong, or all names where it is unknown
 */
export function readOptions<T extends z.ZodType>(
  schema: T,
  fields: Readonly<Record<string, unknown>>,
  names: readonly string[],
): z.infer<T> {
  const result = schema.safeParse(fields);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  if (issue?.code === 'unrecognized_keys') {
    const field = issue.keys[0] ?? 'unknown';
    throw invalidOption(field, `There is no option ${field.slice(0, 100)}. Options are ${names.join(', ')}.`);
  }
  const field = String(issue?.path[0] ?? 'options');
  throw invalidOption(
    field,
    `The option ${field} is not valid: it ${issue?.message ?? 'has a wrong value'}.`,
  );
}

export function invalidOption(field: string, detail: string): ServiceError {
  return new ServiceError('invalid-option', detail, { extensions: { field: field.slice(0, 100) } });
}
