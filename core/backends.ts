import { z } from 'zod';
import { inOurWords } from './environment.ts';
import { VOXTRAL_MODEL_NAMES } from './voxtral-models.ts';

const JOB_PATH = /^projects\/[^/]+\/locations\/[^/]+\/jobs\/[^/]+$/;
const REGION_PATH = /^projects\/[^/]+\/locations\/[^/]+$/;

const common = {
  name: z.string().regex(/^[a-z0-9-]{1,63}$/, 'must be of lower-case letters, digits and hyphens'),
  tier: z.enum(['premium', 'standard']),
  /** Jobs at a time: of a queue the concurrent dispatches, of a job its executions. */
  max_running: z.int().min(1).optional(),
  /** Which recordings it is for. Without limits, all. */
  min_duration_seconds: z.number().min(0).optional(),
  max_duration_seconds: z.number().positive().optional(),
  /** How long a job waits for it before the next backend is asked. */
  claim_timeout_seconds: z.number().min(1).optional(),
  /** What is known of its speed, where nothing that it has done says it. */
  expected: z
    .strictObject({
      /** Seconds of audio that it does in one. */
      realtime_factor: z.number().positive().optional(),
      /** Until an instance works; of a `vertex-job` from when it has a machine. */
      cold_start_seconds: z.number().min(0).optional(),
      /** How long an instance stays after its last job. */
      idle_tail_seconds: z.number().min(0).optional(),
    })
    .optional(),
  /** What an instance is, for prices and for whoever reads the list. */
  shape: z.record(z.string(), z.unknown()).optional(),
};

/** Takes tasks by HTTP. */
const pushed = { ...common, url: z.url() };

/**
 * Passed on as it is; checked is only what a run's own variables are added to, and how long it may wait. Who starts no
 * runs may have an empty one.
 */
const CustomJobSpec = z.looseObject({
  workerPoolSpecs: z
    .array(
      z.looseObject({
        containerSpec: z.looseObject({
          imageUri: z.string(),
          env: z.array(z.looseObject({ name: z.string() })).optional(),
        }),
      }),
    )
    .length(1, 'must have one worker pool')
    .optional(),
  scheduling: z
    .looseObject({ strategy: z.string().optional(), maxWaitDuration: z.string().optional() })
    .optional(),
});

const Backend = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('cloud-run-service'),
    ...pushed,
    /** Instances that are always there, and paid for in any case. */
    min_instances: z.int().min(0).optional(),
  }),
  z.strictObject({ kind: z.literal('server'), ...pushed }),
  z.strictObject({
    kind: z.literal('cloud-run-job'),
    ...common,
    job: z.string().regex(JOB_PATH, 'must be projects/P/locations/L/jobs/J'),
  }),
  z.strictObject({
    kind: z.literal('vertex-job'),
    ...common,
    /** Where custom jobs are made. */
    job: z.string().regex(REGION_PATH, 'must be projects/P/locations/L'),
    /** The `jobSpec` of each custom job, without what is of one run. Its `scheduling` says spot or flex-start. */
    spec: CustomJobSpec,
  }),
  z.strictObject({ kind: z.literal('standalone'), ...common }),
  z.strictObject({
    kind: z.literal('voxtral'),
    ...common,
    /** Of Mistral's, for jobs that name none. */
    model: z.enum(VOXTRAL_MODEL_NAMES).optional(),
  }),
]);

/** Where an engine runs, as the operator lists it: the first is preferred. */
export type Backend = z.infer<typeof Backend>;

export type VoxtralBackend = Extract<Backend, { kind: 'voxtral' }>;

/** One that does not take tasks: each is done by an execution of its own, which is started for it. */
export type JobBackend = Extract<Backend, { job: string }>;

export function isJobBackend(backend: Backend): backend is JobBackend {
  return backend.kind === 'cloud-run-job' || backend.kind === 'vertex-job';
}

/** Whether Mistral's API does the work. cpu-service calls it: such a backend is a queue, and nothing that runs. */
export function isVoxtral(backend: Pick<Backend, 'kind'>): backend is VoxtralBackend {
  return backend.kind === 'voxtral';
}

const MINUTE_S = 60;

/**
 * How long a job waits to be begun before the next backend is asked, unless BACKENDS says something else. A cold start
 * with a GPU takes up to five minutes; what waits in front of it in a queue comes on top. Vertex AI looks for a machine
 * first. On one machine there is no other backend.
 */
const CLAIM_TIMEOUT_S: Record<Backend['kind'], number> = {
  'cloud-run-service': 15 * MINUTE_S,
  server: 15 * MINUTE_S,
  'cloud-run-job': 15 * MINUTE_S,
  'vertex-job': 30 * MINUTE_S,
  standalone: Number.POSITIVE_INFINITY,
  voxtral: Number.POSITIVE_INFINITY,
};
/** How long flex-start looks for a machine, unless its spec says it. */
const FLEX_START_WAIT_S = 24 * 60 * MINUTE_S;

export function claimTimeoutMs(backend: Backend): number {
  const seconds = backend.claim_timeout_seconds ?? CLAIM_TIMEOUT_S[backend.kind] + flexStartSeconds(backend);
  return seconds * 1_000;
}

/** For so long flex-start may look for a machine: to wait is what it is for. 0 of whatever is something else. */
export function flexStartSeconds(backend: Backend): number {
  if (backend.kind !== 'vertex-job' || backend.spec.scheduling?.strategy !== 'FLEX_START') return 0;
  const { maxWaitDuration } = backend.spec.scheduling;
  // 0s is for ever.
  const seconds = maxWaitDuration === undefined ? FLEX_START_WAIT_S : Number.parseFloat(maxWaitDuration);
  return seconds === 0 ? Number.POSITIVE_INFINITY : seconds;
}

/** @throws an error whose message says what is wrong with the list */
export function parseBackends(text: string): Backend[] {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    throw new Error('must be a JSON list of backends');
  }
  const result = z
    .array(Backend, 'must be a JSON list of backends')
    .min(1, 'must name a backend')
    .safeParse(list, { error: inOurWords });
  if (!result.success) {
    const [issue] = result.error.issues;
    const where = issue?.path.join('.') ? `${issue.path.join('.')}: ` : '';
    throw new Error(`${where}${issue?.message}`);
  }
  const names = result.data.map(({ name }) => name);
  const double = names.find((name, i) => names.indexOf(name) !== i);
  if (double !== undefined) throw new Error(`has two backends with the name ${double}`);
  return result.data;
}

/** Who works on the queues of the backends that have one, by the name of the backend. */
export function backendUrls(
  backends: readonly Backend[],
  { cpuService }: { cpuService: string },
): Record<string, string> {
  return Object.fromEntries(
    backends.flatMap((one) => {
      if (isVoxtral(one)) return [[one.name, cpuService]];
      return 'url' in one ? [[one.name, one.url]] : [];
    }),
  );
}
