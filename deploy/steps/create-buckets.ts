import { isDeepStrictEqual } from 'node:util';
import type { Command } from '../gcloud.ts';
import type { Layout } from '../layout.ts';
import type { DeployedBucket } from '../observe.ts';
import type { Change, Step } from '../step.ts';
import { labelText } from './create-repository.ts';

const BUILD_DAYS = 7;
/** What costs are reckoned from: a day's spending, and when an instance was busy. Nobody asks for more than a month. */
const BOOKKEEPING_DAYS = 40;

interface BucketSettings {
  lifecycle: { rule: unknown[] };
  cors: unknown[];
}

export const createBuckets: Step = {
  title: 'buckets',
  changes({ buckets }, { layout }) {
    const { bucket, buildBucket } = layout;
    const buildSettings = { lifecycle: { rule: [deletion({ age: BUILD_DAYS })] }, cors: [] };
    return [
      bucketChange(layout, bucket, buckets.get(bucket), storeSettings(layout)),
      bucketChange(layout, buildBucket, buckets.get(buildBucket), buildSettings),
    ].filter((change) => change !== undefined);
  },
};

function storeSettings({ environment: { storage } }: Layout): BucketSettings {
  const { mediaDays, abandonedUploadDays, corsOrigins } = storage;
  return {
    lifecycle: {
      rule: [
        deletion({ age: abandonedUploadDays, matchesPrefix: ['uploads/', 'upload-locks/'] }),
        deletion({ age: BOOKKEEPING_DAYS, matchesPrefix: ['spend/', 'instances/'] }),
        // Never jobs/, active/ or work/: a record that names what is gone fails.
        ...(mediaDays === undefined
          ? []
          : [deletion({ age: mediaDays, matchesPrefix: ['media/', 'idempotency/'] })]),
      ],
    },
    cors:
      corsOrigins.length === 0
        ? []
        : [
            {
              origin: corsOrigins,
              method: ['PUT'],
              responseHeader: ['Content-Type', 'Location', 'Range'],
              maxAgeSeconds: 3_600,
            },
          ],
  };
}

function deletion(condition: Record<string, unknown>) {
  return { action: { type: 'Delete' }, condition };
}

function bucketChange(
  layout: Layout,
  name: string,
  found: DeployedBucket | undefined,
  { lifecycle, cors }: BucketSettings,
): Change | undefined {
  const address = `gs://${name}`;
  const access = ['--uniform-bucket-level-access', '--public-access-prevention'];
  // Deleted means deleted, and what is kept of it would be billed.
  const softDelete = ['--soft-delete-duration=0'];
  const settings: Command = {
    args: [
      'storage',
      'buckets',
      'update',
      address,
      '--lifecycle-file=lifecycle.json',
      ...(cors.length > 0 ? ['--cors-file=cors.json'] : ['--clear-cors']),
      `--update-labels=${labelText(layout.labels)}`,
      ...(found === undefined ? [] : [...access, '--clear-soft-delete']),
    ],
    files: { 'lifecycle.json': JSON.stringify(lifecycle), 'cors.json': JSON.stringify(cors) },
  };
  if (found === undefined) {
    return {
      title: `make the bucket ${address}`,
      commands: [
        {
          args: [
            'storage',
            'buckets',
            'create',
            address,
            `--location=${layout.region}`,
            ...access,
            ...softDelete,
          ],
        },
        settings,
      ],
    };
  }
  const wrong = [
    ...(found.iamConfiguration?.uniformBucketLevelAccess?.enabled === true ? [] : ['uniform access']),
    ...(found.iamConfiguration?.publicAccessPrevention === 'enforced' ? [] : ['public access prevention']),
    ...(Number(found.softDeletePolicy?.retentionDurationSeconds ?? 0) === 0 ? [] : ['no soft delete']),
    ...(isDeepStrictEqual(found.lifecycle?.rule ?? [], lifecycle.rule) ? [] : ['lifecycle']),
    ...(isDeepStrictEqual(found.cors ?? [], cors) ? [] : ['CORS']),
    ...(hasLabels(found, layout) ? [] : ['label']),
  ];
  if (wrong.length === 0) return undefined;
  return {
    title: `correct the bucket ${address}`,
    details: wrong.map((one) => `+ ${one}`),
    commands: [settings],
  };
}

function hasLabels({ labels = {} }: DeployedBucket, layout: Layout): boolean {
  return Object.entries(layout.labels).every(([name, value]) => labels[name] === value);
}
