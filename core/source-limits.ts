import { z } from 'zod';
import { ConfigError, parsed, readEnvironment, wholeNumber } from './environment.ts';
import { type GcsSources, parseGcsSources } from './gcs-sources.ts';
import { type Networks, parseNetworks } from './link-guard.ts';

const GIB = 2 ** 30;

/** What media may be taken from where: read by the API, which refuses early, and by ingest, which fetches. */
export const SOURCE_ENVIRONMENT = z.object({
  MAX_UPLOAD_BYTES: wholeNumber(1, Number.MAX_SAFE_INTEGER - 1)
    .default(20 * GIB)
    .describe('The largest media file that is accepted, in bytes; default 20 GiB.'),
  LINK_NETWORKS: parsed(parseNetworks)
    .default([])
    .describe(
      'Networks that links may lead to although they are not public, such as `10.1.0.0/16,fd00::/8`; default none. Link-local and metadata addresses stay closed.',
    ),
  GCS_SOURCES: parsed(parseGcsSources)
    .default([])
    .describe('Buckets or prefixes allowed as gs:// sources, such as `gs://a,gs://b/talks/`; default none.'),
});

export interface SourceLimits {
  maxUploadBytes: number;
  linkNetworks: Networks;
  gcsSources: GcsSources;
}

/** @throws {ConfigError} */
export function readSourceLimits(env: NodeJS.ProcessEnv): SourceLimits {
  const { MAX_UPLOAD_BYTES, LINK_NETWORKS, GCS_SOURCES } = readEnvironment(SOURCE_ENVIRONMENT, env);
  if (env.GCS_BUCKET && GCS_SOURCES.some(({ bucket }) => bucket === env.GCS_BUCKET)) {
    // Whoever may name an object of it may have everybody's media transcribed.
    throw new ConfigError('GCS_SOURCES: must not be in GCS_BUCKET, which holds the media of all owners.');
  }
  return { maxUploadBytes: MAX_UPLOAD_BYTES, linkNetworks: LINK_NETWORKS, gcsSources: GCS_SOURCES };
}
