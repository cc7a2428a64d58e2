import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { UsageError } from '../cli/usage-error.ts';
import { inOurWords } from '../core/environment.ts';
import { parseGcsSources } from '../core/gcs-sources.ts';
import { VOXTRAL_MODEL_NAMES } from '../core/voxtral-models.ts';

// What one environment (staging, production) is: everything that may differ between two of them, and nothing else.
// What is the same everywhere, such as one task at a time on a GPU, stands where it is used.

const NAME = /^[a-z](?:[a-z0-9-]{0,20}[a-z0-9])?$/;
const PROJECT = /^[a-z][a-z0-9-]{4,28}[a-z0-9]$/;

/** Cloud Run's sizes for an L4: it wants 4 vCPU and 16 GiB at least, and 4 vCPU have room for no more than 16 GiB. */
export const GPU_SHAPES = {
  '4x16': { vcpu: 4, memoryGib: 16 },
  '8x32': { vcpu: 8, memoryGib: 32 },
} as const;

/** Compute Engine's machines with one L4. */
export const VERTEX_SHAPES = {
  'g2-standard-4': { vcpu: 4, memoryGib: 16 },
  'g2-standard-8': { vcpu: 8, memoryGib: 32 },
  'g2-standard-12': { vcpu: 12, memoryGib: 48 },
} as const;

const common = {
  name: z
    .string()
    .regex(/^[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?$/, 'must be of lower-case letters, digits and hyphens'),
  tier: z.enum(['premium', 'standard']).default('premium'),
  /** Jobs at a time. Each takes a GPU of the quota: a new project has three L4 per region. */
  maxRunning: z.int().min(1).max(100).default(1),
  minDurationSeconds: z.number().min(0).optional(),
  maxDurationSeconds: z.number().positive().optional(),
  /** How long a job waits for this backend before the next one is asked. */
  claimTimeoutSeconds: z.number().min(1).optional(),
};
const shape = z.enum(['4x16', '8x32']).default('8x32');

const CloudRunService = z.strictObject({ kind: z.literal('cloud-run-service'), ...common, shape });
const CloudRunJob = z.strictObject({
  kind: z.literal('cloud-run-job'),
  ...common,
  shape,
  /** How long one run may take: an hour at most with a GPU. A longer job goes on in another run. */
  taskTimeoutSeconds: z.int().min(900).max(3_600).default(3_600),
});
const VertexJob = z.strictObject({
  kind: z.literal('vertex-job'),
  ...common,
  /** Where custom jobs run, if not in the environment's region. */
  location: z.string().optional(),
  machineType: z.enum(['g2-standard-4', 'g2-standard-8', 'g2-standard-12']).default('g2-standard-8'),
  /** SPOT may be taken away at any moment, FLEX_START waits in line for a GPU: both are cheaper. */
  strategy: z.enum(['STANDARD', 'SPOT', 'FLEX_START']).default('STANDARD'),
  timeoutSeconds: z.int().min(900).max(604_800).default(14_400),
  /** How long FLEX_START waits for a machine; 0 is for ever. */
  maxWaitSeconds: z.int().min(0).max(604_800).default(3_600),
});
/** A GPU server of one's own, reached from Cloud Tasks: see deploy/backends/server. */
const Server = z.strictObject({
  kind: z.literal('server'),
  ...common,
  url: z.url({ protocol: /^https$/, error: 'must be an https address' }),
});

/** Mistral's API, which cpu-service asks. It takes nothing of the quotas: see deploy/backends/voxtral. */
const Voxtral = z.strictObject({
  kind: z.literal('voxtral'),
  ...common,
  tier: z.literal('standard').default('standard'),
  /** Jobs at a time, all in cpu-service, where they wait more than they work. */
  maxRunning: z.int().min(1).max(50).default(4),
  /** For jobs that name none. */
  model: z.enum(VOXTRAL_MODEL_NAMES).optional(),
});

export const EnvironmentBackend = z.discriminatedUnion('kind', [
  CloudRunService,
  CloudRunJob,
  VertexJob,
  Server,
  Voxtral,
]);

/** `min` instances cost money while nothing happens. */
const scaling = {
  minInstances: z.int().min(0).max(10).default(0),
  maxInstances: z.int().min(1).max(100).default(1),
};

export const Environment = z.strictObject({
  /** The project's id. Without it: PROJECT, what gcloud's own variables say, or `gcloud config get project`. */
  project: z.string().regex(PROJECT, 'must be the id of a project').optional(),
  region: z.string().default('europe-west1'),
  /** What every name begins with. Service accounts allow 30 letters in all, so this may have 22. */
  prefix: z.string().regex(NAME, 'must be of at most 22 lower-case letters, digits and hyphens'),
  /** Of the names of queues, if not `prefix`: the name of a deleted queue cannot be used again for some days. */
  queuePrefix: z.string().regex(NAME).optional(),
  /** The environment's bucket, if not PROJECT-PREFIX: the names of buckets are one space for all of Google's customers. */
  bucket: z
    .string()
    .regex(/^[a-z0-9][a-z0-9._-]{1,55}[a-z0-9]$/, 'must be the name of a bucket, of at most 57 letters')
    .optional(),

  images: z.strictObject({
    whisperModels: z.array(z.string().regex(/^[\w.-]+$/)).min(1, 'must name a model'),
    /** Languages whose words get exact times by a model of their own; all others have Whisper's attention. */
    alignmentLanguages: z.array(z.string().regex(/^[a-z]{2,3}$/)).default([]),
    /** Instead of the pinned Debian of the Dockerfiles. */
    baseImage: z.string().optional(),
    /** Where images are built. `global` works in every project; a region may be closed to new ones. */
    buildRegion: z.string().default('global'),
    /** For the GPU image, which loads its models once: the 8 GB of E2_HIGHCPU_8 are just enough or too little. */
    buildMachine: z.enum(['E2_HIGHCPU_8', 'E2_HIGHCPU_32']).default('E2_HIGHCPU_32'),
  }),

  /** In order of preference. */
  backends: z.array(EnvironmentBackend).min(1, 'must name a backend'),

  api: z.strictObject({
    ...scaling,
    maxInstances: z.int().min(1).max(100).default(2),
    vcpu: z.literal([1, 2, 4]).default(1),
    memoryGib: z.int().min(1).max(8).default(1),
    /**
     * `public`: anybody reaches the API, which asks for its own keys. `iam`: Google's front end lets through only
     * `invokers`, for organisations whose policies forbid the former.
     */
    access: z.enum(['public', 'iam']).default('public'),
    invokers: z.array(z.string().regex(/^(user|group|serviceAccount|domain):.+$/)).default([]),
    /** HTTP/2 up to the container: without it Cloud Run takes no request of more than 32 MiB. */
    http2: z.boolean().default(true),
    /** How clients reach it, where that is not Cloud Run's own address. */
    publicUrl: z.url().optional(),
  }),

  cpuService: z.strictObject({
    ...scaling,
    vcpu: z.literal([1, 2, 4]).default(2),
    /** For four recordings at a time. The bucket is mounted, so they are not in memory. */
    memoryGib: z.int().min(2).max(16).default(4),
  }),

  /**
   * Names in Secret Manager. The first two are made up if they are not there; the others are taken from the variable
   * of the same name on the machine that deploys.
   */
  secrets: z.strictObject({
    apiKeys: z.string(),
    urlSigningKey: z.string(),
    /** Made and read only while there is a backend of the kind voxtral, which needs it. */
    mistralApiKey: z.string().optional(),
    /** Read while the GPU image is built, and by nothing else. */
    hfToken: z.string().optional(),
  }),

  storage: z.strictObject({
    /** Days after which media is removed although its job still stands. Without it, media goes when its job is deleted. */
    mediaDays: z.int().min(1).optional(),
    /** Days after which an upload that nobody finished is removed by the bucket. The service does it after one. */
    abandonedUploadDays: z.int().min(2).default(3),
    /** Pages of these origins may send recordings straight to the bucket. */
    corsOrigins: z.array(z.string()).default([]),
  }),

  /** Other buckets whose objects may be named in a job, such as gs://bucket/folder/. */
  gcsSources: z.array(z.string().refine(isGcsSource, 'must be such as gs://bucket/folder/')).default([]),
  linkNetworks: z.array(z.string()).default([]),
  maxUploadBytes: z.int().min(1).optional(),
  /** What the jobs of one day (UTC) may cost together: beyond it, new ones are refused. */
  dailySpendLimitUsd: z.number().positive().optional(),
  logLevel: z.enum(['error', 'warn', 'info', 'debug']).default('info'),
});

export type Environment = z.infer<typeof Environment> & { name: string };
export type EnvironmentInput = z.input<typeof Environment>;
export type EnvironmentBackend = z.infer<typeof EnvironmentBackend>;
export type BackendOfKind<K extends EnvironmentBackend['kind']> = Extract<EnvironmentBackend, { kind: K }>;

/** @throws {UsageError} that says everything that is wrong */
export function parseEnvironment(name: string, input: unknown): Environment {
  const result = Environment.safeParse(input, { error: inOurWords });
  const wrong = result.success
    ? contradictions(result.data)
    : result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  if (wrong.length > 0 || !result.success) {
    throw new UsageError(`deploy/environments/${name}.ts is not valid:\n  ${wrong.join('\n  ')}`);
  }
  return { ...result.data, name };
}

function contradictions({ prefix, backends, api, images, secrets }: z.infer<typeof Environment>): string[] {
  const wrong: string[] = [];
  for (const [i, { name, minDurationSeconds = 0, maxDurationSeconds = Infinity }] of backends.entries()) {
    const at = `backends.${i}`;
    if (backends.findIndex((other) => other.name === name) !== i) {
      wrong.push(`${at}.name: there are two backends ${name}`);
    }
    if (name === 'cpu' || name === 'api') wrong.push(`${at}.name: ${name} is the name of another service`);
    // A label of an address has 63 letters, and 13 are for the project's number.
    if (prefix.length + name.length > 48) wrong.push(`${at}.name: is too long together with the prefix`);
    if (minDurationSeconds >= maxDurationSeconds) {
      wrong.push(`${at}: minDurationSeconds must be below maxDurationSeconds`);
    }
  }
  if (!backends.some(({ tier }) => tier === 'premium'))
    wrong.push('backends: one must be of the tier premium');
  if (backends.some(({ kind }) => kind === 'voxtral') && secrets.mistralApiKey === undefined) {
    wrong.push('secrets.mistralApiKey: must be a name, for the key that the backend voxtral needs');
  }
  if (api.access === 'iam' && api.invokers.length === 0) {
    wrong.push('api.invokers: must name who may call the API when its access is iam');
  }
  if (api.access === 'public' && api.invokers.length > 0) {
    wrong.push('api.invokers: is for access iam; a public API lets everybody through');
  }
  if (new Set(images.whisperModels).size < images.whisperModels.length) {
    wrong.push('images.whisperModels: names a model twice');
  }
  return wrong;
}

function isGcsSource(text: string): boolean {
  try {
    parseGcsSources(text);
    return true;
  } catch {
    return false;
  }
}

const FOLDER = join(import.meta.dirname, 'environments');

/** @throws {UsageError} */
export async function loadEnvironment(name: string): Promise<Environment> {
  const names = readdirSync(FOLDER)
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.slice(0, -3));
  if (!names.includes(name)) {
    throw new UsageError(
      `There is no environment ${name}: deploy/environments has ${names.join(', ')}. To make one, copy staging.ts.`,
    );
  }
  const inputs = new Map(
    await Promise.all(
      names.map(async (one) => {
        const module: { default: EnvironmentInput } = await import(join(FOLDER, `${one}.ts`));
        return [one, module.default] as const;
      }),
    ),
  );
  const environment = parseEnvironment(name, inputs.get(name));
  refuseSharedPrefix(environment, inputs);
  return environment;
}

/** Two environments of one prefix would be one, which each changes to its own liking. @throws {UsageError} */
export function refuseSharedPrefix(
  { name, prefix }: Pick<Environment, 'name' | 'prefix'>,
  inputs: ReadonlyMap<string, Pick<EnvironmentInput, 'prefix'>>,
): void {
  const other = [...inputs].find(([one, input]) => one !== name && input?.prefix === prefix)?.[0];
  if (other === undefined) return;
  throw new UsageError(
    `deploy/environments/${name}.ts and ${other}.ts have the same prefix, ${prefix}: give one of them another.`,
  );
}
