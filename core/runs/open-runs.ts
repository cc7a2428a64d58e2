import type { AuthClient } from 'google-auth-library';
import { z } from 'zod';
import { type Backend, isJobBackend, type JobBackend } from '../backends.ts';
import { ConfigError, readEnvironment } from '../environment.ts';
import { CloudRunJobs } from './cloud-run-jobs.ts';
import { GoogleApi } from './google-api.ts';
import type { Runs } from './runs.ts';
import { VertexJobs } from './vertex-jobs.ts';

export const RUNS_ENVIRONMENT = z.object({
  RUN_API_ENDPOINT: z.url().optional().describe('An emulator of the Cloud Run Admin API.'),
  VERTEX_API_ENDPOINT: z.url().optional().describe('An emulator of Vertex AI.'),
});

export interface RunsConfig {
  runApiEndpoint: string | undefined;
  vertexApiEndpoint: string | undefined;
}

/** @throws {ConfigError} */
export function readRunsConfig(env: NodeJS.ProcessEnv): RunsConfig {
  const { RUN_API_ENDPOINT, VERTEX_API_ENDPOINT } = readEnvironment(RUNS_ENVIRONMENT, env);
  return { runApiEndpoint: RUN_API_ENDPOINT, vertexApiEndpoint: VERTEX_API_ENDPOINT };
}

/**
 * Of every backend that is started for each job, by its name.
 * @throws {ConfigError} when there is one that could not be started
 */
export function openRuns(backends: readonly Backend[], config: RunsConfig): ReadonlyMap<string, Runs> {
  const signed = credentialsWhenNeeded();
  const open = (backend: JobBackend): Runs => {
    if (backend.kind === 'cloud-run-job') {
      return new CloudRunJobs(api(config.runApiEndpoint, 'https://run.googleapis.com', signed), backend.job);
    }
    if (backend.spec.workerPoolSpecs === undefined) {
      throw new ConfigError(`BACKENDS: the backend ${backend.name} needs a spec with workerPoolSpecs.`);
    }
    const region = backend.job.split('/').at(-1);
    const origin = `https://${region}-aiplatform.googleapis.com`;
    return new VertexJobs(api(config.vertexApiEndpoint, origin, signed), backend);
  };
  return new Map(backends.filter(isJobBackend).map((backend) => [backend.name, open(backend)]));
}

function api(
  emulator: string | undefined,
  origin: string,
  signed: () => Promise<Record<string, string>>,
): GoogleApi {
  return emulator === undefined
    ? new GoogleApi({ origin, authorize: signed })
    : new GoogleApi({ origin: emulator.replace(/\/+$/, ''), authorize: async () => ({}) });
}

/** Those of the machine, with a token that is renewed when it is time. */
function credentialsWhenNeeded(): () => Promise<Record<string, string>> {
  let found: Promise<AuthClient> | undefined;
  return async () => {
    found ??= findCredentials();
    try {
      const client = await found;
      return Object.fromEntries(new Headers(await client.getRequestHeaders()));
    } catch {
      found = undefined;
      // Its reason is left out: an error of the auth library may quote what it was given.
      throw new Error('no access token could be had');
    }
  };
}

async function findCredentials(): Promise<AuthClient> {
  const { GoogleAuth } = await import('google-auth-library');
  return new GoogleAuth({ scopes: ['https://www.googleapis.com/auth/cloud-platform'] }).getClient();
}
