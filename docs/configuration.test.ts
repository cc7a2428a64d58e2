import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import type { z } from 'zod';
import { API_ENVIRONMENT } from '../api/config.ts';
import { COST_ENVIRONMENT, SPEND_ENVIRONMENT } from '../core/costs/cost-settings.ts';
import { LOG_ENVIRONMENT } from '../core/environment.ts';
import { PLATFORM_ENVIRONMENT } from '../core/platform.ts';
import { PRIVATE_SERVICE_ENVIRONMENT, RUN_ONCE_ENVIRONMENT } from '../core/private-service.ts';
import { RUNS_ENVIRONMENT } from '../core/runs/open-runs.ts';
import { SOURCE_ENVIRONMENT } from '../core/source-limits.ts';
import { MISTRAL_ENVIRONMENT } from '../cpu-service/voxtral/config.ts';
import { BACKEND_ENVIRONMENT, GPU_ENVIRONMENT } from '../gpu-service/config.ts';
import { STANDALONE_ENVIRONMENT } from '../standalone/config.ts';

const page = readFileSync(join(import.meta.dirname, 'configuration.md'), 'utf8');

/** The rows of every table on the page: variable → sentence. */
const documented = Object.fromEntries(
  [...page.matchAll(/^\| `([A-Z0-9_]+)` \| (.+) \|$/gm)].map(([, name, sentence]) => [name, sentence]),
);

test('every variable that the code reads is described with the sentence it has there, and no other', () => {
  const schemas = [
    STANDALONE_ENVIRONMENT,
    LOG_ENVIRONMENT,
    API_ENVIRONMENT,
    GPU_ENVIRONMENT,
    PLATFORM_ENVIRONMENT,
    PRIVATE_SERVICE_ENVIRONMENT,
    RUN_ONCE_ENVIRONMENT,
    RUNS_ENVIRONMENT,
    SOURCE_ENVIRONMENT,
    BACKEND_ENVIRONMENT,
    MISTRAL_ENVIRONMENT,
    COST_ENVIRONMENT,
    SPEND_ENVIRONMENT,
  ];
  const read = schemas.flatMap((schema) => Object.entries(schema.shape as Record<string, z.ZodType>));
  expect(documented).toEqual(Object.fromEntries(read.map(([name, type]) => [name, type.description])));
});
