import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { parsed, readEnvironment } from '../environment.ts';
import { PRICES, type Prices, withOwnPrices } from './prices.ts';

export const COST_ENVIRONMENT = z.object({
  PRICES_FILE: parsed(readPrices)
    .optional()
    .describe(
      'A file with prices of your own, in the form of `core/costs/prices.json`; those that it leaves out stay as they are.',
    ),
});

/** Of the services that let jobs in: api and cpu-service. */
export const SPEND_ENVIRONMENT = z.object({
  DAILY_SPEND_LIMIT_USD: z.coerce
    .number('must be a number of dollars')
    .positive('must be more than 0')
    .optional()
    .describe(
      'What jobs may cost in a day (UTC): when those of today have reached it, no more are taken until midnight; default no limit.',
    ),
});

/** @throws {ConfigError} */
export function readCostSettings(env: NodeJS.ProcessEnv): { prices: Prices } {
  return { prices: readEnvironment(COST_ENVIRONMENT, env).PRICES_FILE ?? PRICES };
}

/** @throws {ConfigError} */
export function readSpendLimit(env: NodeJS.ProcessEnv): { dailySpendLimitUsd: number | undefined } {
  return { dailySpendLimitUsd: readEnvironment(SPEND_ENVIRONMENT, env).DAILY_SPEND_LIMIT_USD };
}

function readPrices(path: string): Prices {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new Error(`the file cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
  return withOwnPrices(text);
}
