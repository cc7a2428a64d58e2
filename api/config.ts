import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { ConfigError, LISTEN_ENVIRONMENT, readEnvironment } from '../core/environment.ts';
import { isLoopback } from '../core/loopback.ts';
import { type ApiKeys, parseApiKeys } from './http/api-keys.ts';

const GIB = 2 ** 30;

const whole = (min: number, max: number) => {
  const message = `must be a whole number from ${min} to ${max}`;
  return z.coerce.number(message).int(message).min(min, message).max(max, message);
};

const apiKeys = z.string().transform((text, context): ApiKeys => {
  try {
    return parseApiKeys(text);
  } catch (error) {
    context.addIssue((error as Error).message);
    return z.NEVER;
  }
});

export const API_ENVIRONMENT = z.object({
  ...LISTEN_ENVIRONMENT.shape,
  API_KEYS: apiKeys
    .default([])
    .describe(
      'Who may use the service: `name:key`, separated by commas, or one bare key; a key may be given as `sha256:<hex>`.',
    ),
  MAX_UPLOAD_BYTES: whole(1, Number.MAX_SAFE_INTEGER - 1)
    .default(20 * GIB)
    .describe('The largest media file that is accepted, in bytes; default 20 GiB.'),
  URL_SIGNING_KEY: z
    .string()
    .min(16, 'must have at least 16 characters')
    .optional()
    .describe('Signs links to media, the same in all instances; without it, links end with the process.'),
  PUBLIC_URL: z
    .url({ protocol: /^https?$/, error: 'must be an http or https address' })
    .transform((url) => url.replace(/\/+$/, ''))
    .optional()
    .describe('How clients reach the API, for links in answers; without it, as each request came.'),
});

export interface ApiConfig {
  port: number;
  host: string;
  keys: ApiKeys;
  maxUploadBytes: number;
  urlSigningKey: string;
  publicUrl: string | undefined;
}

/** @throws {ConfigError} */
export function readApiConfig(env: NodeJS.ProcessEnv = process.env): ApiConfig {
  const { PORT, HOST, API_KEYS, MAX_UPLOAD_BYTES, URL_SIGNING_KEY, PUBLIC_URL } = readEnvironment(
    API_ENVIRONMENT,
    env,
  );
  if (!isLoopback(HOST) && API_KEYS.length === 0) {
    throw new ConfigError(
      `Listening on ${HOST} would let anybody use this service: set API_KEYS, or HOST=127.0.0.1.`,
    );
  }
  return {
    port: PORT,
    host: HOST,
    keys: API_KEYS,
    maxUploadBytes: MAX_UPLOAD_BYTES,
    urlSigningKey: URL_SIGNING_KEY ?? randomBytes(32).toString('base64url'),
    publicUrl: PUBLIC_URL,
  };
}
