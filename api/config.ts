import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import {
  ConfigError,
  LISTEN_ENVIRONMENT,
  parsed,
  readEnvironment,
  readTogether,
} from '../core/environment.ts';
import { isLoopback } from '../core/loopback.ts';
import { readSourceLimits, type SourceLimits } from '../core/source-limits.ts';
import { type ApiKeys, parseApiKeys } from './http/api-keys.ts';

export const API_ENVIRONMENT = z.object({
  ...LISTEN_ENVIRONMENT.shape,
  API_KEYS: parsed(parseApiKeys)
    .default([])
    .describe(
      'Who may use the service: `name:key`, separated by commas, or one bare key; a key may be given as `sha256:<hex>`.',
    ),
  HTTP2: z
    .enum(['true', 'false'])
    .default('false')
    .transform((text) => text === 'true')
    .describe(
      'Listen as cleartext HTTP/2 too, on the same port, as Cloud Run’s `--use-http2` needs it: `true` or `false` (the default).',
    ),
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

export interface ApiConfig extends SourceLimits {
  port: number;
  host: string;
  keys: ApiKeys;
  http2: boolean;
  urlSigningKey: string;
  publicUrl: string | undefined;
}

/** @throws {ConfigError} */
export function readApiConfig(env: NodeJS.ProcessEnv = process.env): ApiConfig {
  const { values, limits } = readTogether({
    values: () => readEnvironment(API_ENVIRONMENT, env),
    limits: () => readSourceLimits(env),
  });
  const { PORT, HOST, API_KEYS, HTTP2, URL_SIGNING_KEY, PUBLIC_URL } = values;
  if (!isLoopback(HOST) && API_KEYS.length === 0) {
    throw new ConfigError(
      `Listening on ${HOST} would let anybody use this service: set API_KEYS, or HOST=127.0.0.1.`,
    );
  }
  return {
    port: PORT,
    host: HOST,
    keys: API_KEYS,
    ...limits,
    http2: HTTP2,
    urlSigningKey: URL_SIGNING_KEY ?? randomBytes(32).toString('base64url'),
    publicUrl: PUBLIC_URL,
  };
}
