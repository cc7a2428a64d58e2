import type { Manifest } from '../../knative.ts';
import type { Layout } from '../../layout.ts';
import { manifests } from '../../manifests.ts';
import { type RunShape, shapeOf } from '../deployed-run.ts';
import type { Facts } from '../facts.ts';
import { type Check, type Finding, ifSeen, ok, problem, warning } from '../finding.ts';
import { deployAgain, shown } from '../fix-commands.ts';

/** Where Cloud Run has L4 (its documentation, October 2026). */
const L4_REGIONS: Readonly<Record<string, 'open' | 'doubtful' | 'invitation'>> = {
  'europe-west1': 'open',
  'europe-west4': 'open',
  'us-east4': 'open',
  'asia-southeast1': 'open',
  'us-central1': 'doubtful',
  'asia-south1': 'invitation',
};

export const checkRegion: Check = {
  title: 'GPU region',
  look: (_, layout) => {
    const { region, environment } = layout;
    if (!environment.backends.some(({ kind }) => kind.startsWith('cloud-run'))) {
      return [ok('no backend needs a GPU of Cloud Run')];
    }
    const fix = 'Set region in the environment file to europe-west1, europe-west4 or us-east4.';
    switch (L4_REGIONS[region]) {
      case 'open':
        return [ok(`${region} has L4`)];
      case 'doubtful':
        return [
          warning(`${region} has L4, but may be by invitation only`, {
            why: 'Google’s pages disagree about it, and it is the region that is short of them most often.',
            fix,
          }),
        ];
      case 'invitation':
        return [
          problem(`${region} has L4 by invitation only`, { why: 'The quota is 0 for everybody else.', fix }),
        ];
      default:
        return [problem(`${region} has no GPUs on Cloud Run`, { why: 'A deploy is refused there.', fix })];
    }
  },
};

interface Resource {
  name: string;
  quotaId: string;
  /** Such as "3 L4". */
  text(amount: number): string;
  amount(shape: RunShape): number;
  /** What a new project has, for where the quota cannot be seen. */
  initial: number;
  zero: string;
}

const GIB = 1024 ** 3;

const GPUS: Resource = {
  name: 'GPUs',
  quotaId: 'NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion',
  text: (amount) => `${amount} L4`,
  amount: ({ gpus }) => gpus,
  initial: 3,
  zero: 'Free trials get no GPUs, and some regions are by invitation.',
};
const MEMORY: Resource = {
  name: 'memory',
  quotaId: 'MemAllocPerProjectRegion',
  text: (amount) => `${Math.round((amount / GIB) * 10) / 10} GiB`,
  amount: ({ memoryBytes }) => memoryBytes,
  initial: 40 * GIB,
  zero: '',
};
const CPUS: Resource = {
  name: 'CPU',
  quotaId: 'CpuAllocPerProjectRegion',
  text: (amount) => `${amount / 1_000} vCPU`,
  amount: ({ cpuMillis }) => cpuMillis,
  initial: 20_000,
  zero: '',
};

export const checkQuota: Check = {
  title: 'quota of Cloud Run',
  look: (facts, layout) => [
    // Where it cannot be seen, what a new project has is the best guess.
    ...(facts.runQuotas.isSeen || facts.runQuotas.isToldElsewhere
      ? []
      : [
          warning('The quota could not be seen, so what a new project has is taken for it', {
            why: facts.runQuotas.why,
          }),
        ]),
    ...[GPUS, MEMORY, CPUS].flatMap((resource) => quotaFindings(resource, facts, layout)),
  ],
};

interface Use {
  name: string;
  /** What Cloud Run compares with the quota when it is deployed. */
  atDeploy: number;
  /** What it takes when everything runs at once. */
  most: number;
}

function quotaFindings(resource: Resource, facts: Facts, layout: Layout): Finding[] {
  const planned = manifests(layout).map((manifest) => useOf(resource, layout, manifest));
  if (planned.every(({ most }) => most === 0)) return [];
  const limit = facts.runQuotas.isSeen ? facts.runQuotas.value.get(resource.quotaId) : undefined;
  const others = facts.runs.isSeen
    ? facts.runs.value
        .filter(({ metadata }) => !planned.some(({ name }) => name === metadata.name))
        .map((run): Use => {
          const shape = shapeOf(run);
          const most = shape.most * resource.amount(shape);
          return { name: run.metadata.name, atDeploy: most, most };
        })
    : [];
  const allowed = limit ?? resource.initial;
  return [
    ...(facts.runQuotas.isSeen && limit === undefined
      ? [warning(`Google names no ${resource.quotaId} for ${layout.region}`)]
      : []),
    ...compare(resource, layout, { planned, others, allowed, guessed: limit === undefined }),
  ];
}

function compare(
  resource: Resource,
  layout: Layout,
  { planned, others, allowed, guessed }: { planned: Use[]; others: Use[]; allowed: number; guessed: boolean },
): Finding[] {
  const { text, quotaId, zero } = resource;
  const { region } = layout;
  // Minus one is no limit.
  if (allowed < 0) return [ok(`${resource.name}: no limit in ${region}`)];
  const tooMuch = planned.filter(({ atDeploy }) => atDeploy > allowed);
  const have = guessed ? `a new project has ${text(allowed)}` : `the project has ${text(allowed)}`;
  const raise = (amount: number) => [
    shown(
      layout,
      'beta',
      'quotas',
      'preferences',
      'create',
      '--service=run.googleapis.com',
      `--quota-id=${quotaId}`,
      `--preferred-value=${amount}`,
      `--dimensions=region=${region}`,
    ),
  ];
  if (tooMuch.length > 0) {
    return tooMuch.map(({ name, atDeploy }) =>
      (guessed ? warning : problem)(`${name} may take ${text(atDeploy)} at once, and ${have} in ${region}`, {
        why: `Cloud Run refuses the deploy: it compares the greatest number of instances, not those that run.${allowed === 0 && zero !== '' ? ` ${zero}` : ''}`,
        fix: `Lower maxRunning or maxInstances${resource === MEMORY ? ', or take the shape 4x16,' : ''} in the environment file; or ask Google for more, which takes days at times.`,
        commands: [deployAgain(layout), ...raise(atDeploy)],
      }),
    );
  }
  const all = [...planned, ...others].filter(({ most }) => most > 0);
  const total = all.reduce((sum, { most }) => sum + most, 0);
  if (total > allowed) {
    return [
      warning(`together ${text(total)} in ${region}, and ${have}`, {
        why: `Each can be deployed, but not all can run at once, in any environment: ${all.map(({ name, most }) => `${name} ${text(most)}`).join(', ')}. What comes too late gets 429 or is refused, and its job goes to another backend or waits.`,
        fix: 'Nothing, if that is rare. Otherwise have fewer backends, or ask Google for more.',
        commands: raise(total),
      }),
    ];
  }
  return [ok(`${text(total)} of ${text(allowed)} in ${region}${guessed ? ', which is a guess' : ''}`)];
}

function useOf(resource: Resource, { environment, backendName }: Layout, manifest: Manifest): Use {
  const shape = shapeOf(manifest);
  const one = resource.amount(shape);
  const backend = environment.backends.find((each) => backendName(each) === shape.name);
  // Of a job, the backend's limit is on how many executions there are.
  const most = manifest.kind === 'Job' ? (backend?.maxRunning ?? 1) : shape.most;
  return { name: shape.name, atDeploy: shape.most * one, most: most * one };
}

export const checkVertexQuota: Check = {
  title: 'Vertex AI quota',
  look: ({ vertexQuotas }, layout) => {
    const backends = layout.environment.backends.flatMap((one) => (one.kind === 'vertex-job' ? [one] : []));
    if (backends.length === 0) return [ok('no backend uses Vertex AI')];
    return ifSeen('The quota of Vertex AI', vertexQuotas, (limits) =>
      backends.map(({ name, location = layout.region, strategy, maxRunning }) => {
        // Machines that may be taken away count on a quota of their own.
        const metric = `custom_model_training_${strategy === 'STANDARD' ? '' : 'preemptible_'}nvidia_l4_gpus`;
        const limit = limits.get(`${location} ${metric}`) ?? 0;
        if (limit < 0 || limit >= maxRunning)
          return ok(`${name}: ${limit < 0 ? 'no limit' : `${limit} L4`} in ${location}`);
        return warning(`${name} may run ${maxRunning} at once, and ${metric} is ${limit} in ${location}`, {
          why: 'Vertex AI has quotas of its own, and in a new project they are 0. Its jobs are refused and go to the next backend.',
          fix: 'Ask for it at https://console.cloud.google.com/iam-admin/quotas (service Vertex AI API), or take the backend out of the environment file.',
        });
      }),
    );
  },
};
