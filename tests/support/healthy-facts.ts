import {
  buildAccess,
  callerAccess,
  formerAccess,
  keyOf,
  serviceAccess,
  usesMistral,
} from '../../deploy/access.ts';
import { type Facts, seen } from '../../deploy/doctor/facts.ts';
import { DOCTOR_APIS, ORG_POLICIES } from '../../deploy/doctor/gather-facts.ts';
import type { Layout } from '../../deploy/layout.ts';
import { manifests } from '../../deploy/manifests.ts';
import type { DeployedQueue, DeployedRun } from '../../deploy/observe.ts';
import { changedPolicy, type Policy, policyChanges } from '../../deploy/policy.ts';
import { queueSizes } from '../../deploy/steps/create-queues.ts';
import { neededApis } from '../../deploy/steps/enable-apis.ts';

const GIB = 1024 ** 3;

/** A project in which the environment is deployed and nothing is wrong, with quotas for all of it. */
export function healthyFacts(layout: Layout): Facts {
  const { environment, accounts } = layout;
  const policies = new Map<string, Policy>();
  for (const { resource, grants } of [
    ...buildAccess(layout),
    ...serviceAccess(layout),
    ...callerAccess(layout),
    ...formerAccess(layout),
  ]) {
    const before = policies.get(keyOf(resource)) ?? {};
    policies.set(keyOf(resource), changedPolicy(before, policyChanges(before, grants, new Set())));
  }
  return {
    gcloudVersion: seen('528.0.0'),
    account: seen('somebody@example.com'),
    hasBilling: seen(true),
    apis: seen(new Set([...neededApis(layout), ...DOCTOR_APIS])),
    runQuotas: seen(
      new Map([
        ['NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion', 3],
        ['MemAllocPerProjectRegion', 200 * GIB],
        ['CpuAllocPerProjectRegion', 100_000],
      ]),
    ),
    vertexQuotas: seen(
      new Map(
        ['', 'preemptible_'].map((kind) => [
          `${layout.region} custom_model_training_${kind}nvidia_l4_gpus`,
          1,
        ]),
      ),
    ),
    accounts: seen(new Map(Object.values(accounts).map((email) => [email, { isDisabled: false }]))),
    bucket: seen({
      name: layout.bucket,
      location: layout.region.toUpperCase(),
      iamConfiguration: {
        uniformBucketLevelAccess: { enabled: true },
        publicAccessPrevention: 'enforced',
      },
      lifecycle: {
        rule: [
          { action: { type: 'Delete' }, condition: { age: 3, matchesPrefix: ['uploads/', 'upload-locks/'] } },
          { action: { type: 'Delete' }, condition: { age: 30, matchesPrefix: ['media/', 'idempotency/'] } },
        ],
      },
    }),
    queues: seen(new Map([...queueSizes(layout)].map(([name, size]) => [name, healthyQueue(name, size)]))),
    secrets: seen(
      new Map(
        Object.values(environment.secrets)
          .filter((name) => name !== undefined)
          .map((name) => [name, { hasValue: seen(true) }]),
      ),
    ),
    runs: seen(
      manifests(layout).map((manifest): DeployedRun => {
        const { kind, metadata, spec } = structuredClone(manifest);
        const url = `https://${metadata.name}-${layout.project.number}.${layout.region}.run.app`;
        return {
          kind,
          metadata,
          spec,
          status: { ...(kind === 'Service' && { url }), conditions: [{ type: 'Ready', status: 'True' }] },
        };
      }),
    ),
    images: seen(new Set(Object.values(layout.images))),
    policies: new Map([...policies].map(([key, policy]) => [key, seen(policy)])),
    capabilities: new Map(
      environment.backends
        .filter(({ kind }) => kind !== 'voxtral')
        .map(({ name }) => [
          name,
          seen({
            default_model: environment.images.whisperModels[0] ?? '',
            models: environment.images.whisperModels.map((model) => ({
              name: model,
              is_multilingual: true,
              can_translate: true,
            })),
            alignment_languages: environment.images.alignmentLanguages,
            can_diarize: true,
          }),
        ]),
    ),
    mayUseVertex: seen(true),
    isMistralKeyTaken: usesMistral(layout) ? seen(true) : undefined,
    orgPolicies: new Map(ORG_POLICIES.map((name) => [name, seen({ spec: { rules: [] } })])),
    apiAnswers: seen(true),
  };
}

function healthyQueue(name: string, size: number): DeployedQueue {
  return {
    name,
    state: 'RUNNING',
    rateLimits: { maxConcurrentDispatches: size },
    retryConfig: {
      maxAttempts: -1,
      maxRetryDuration: '0s',
      minBackoff: '10s',
      maxBackoff: '300s',
      maxDoublings: 5,
    },
  };
}
