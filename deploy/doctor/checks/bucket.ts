import type { Layout } from '../../layout.ts';
import type { StoreBucket } from '../facts.ts';
import { type Check, type Finding, ifSeen, notYet, ok, problem, warning } from '../finding.ts';
import { deployAgain, fixing, shown } from '../fix-commands.ts';

/** What only we remove: a record that names what is gone fails its job. */
const KEPT = ['jobs/', 'active/', 'work/', 'transcripts/', 'capabilities/'];

export const checkBucket: Check = {
  title: 'bucket',
  look: ({ bucket }, layout) =>
    ifSeen(`The bucket gs://${layout.bucket}`, bucket, (found) => {
      if (found === undefined) return [notYet(`gs://${layout.bucket}`)];
      const wrong = findingsOf(layout, found);
      return wrong.length > 0
        ? wrong
        : [
            ok(
              `gs://${layout.bucket}: closed, nothing deleted is kept, lifecycle and CORS as they should be`,
            ),
          ];
    }),
};

function findingsOf(layout: Layout, bucket: StoreBucket): Finding[] {
  const address = `gs://${layout.bucket}`;
  const update = (...flags: string[]) => [fixing(layout, 'storage', 'buckets', 'update', address, ...flags)];
  const { iamConfiguration, softDeletePolicy, versioning, retentionPolicy, location } = bucket;
  const findings: Finding[] = [];
  if (iamConfiguration?.uniformBucketLevelAccess?.enabled !== true) {
    findings.push(
      problem(`${address} has rights on single objects`, {
        why: 'Who may read a recording is then not told by the bucket’s policy alone.',
        fix: 'Switch uniform access on.',
        commands: update('--uniform-bucket-level-access'),
      }),
    );
  }
  if (iamConfiguration?.publicAccessPrevention !== 'enforced') {
    findings.push(
      problem(`${address} can be made public`, {
        why: 'One wrong grant would publish every recording.',
        fix: 'Switch public access prevention on.',
        commands: update('--public-access-prevention'),
      }),
    );
  }
  if (Number(softDeletePolicy?.retentionDurationSeconds ?? 0) > 0) {
    findings.push(
      problem(`${address} keeps what is deleted`, {
        why: 'Whoever deletes a recording means it, and it would be billed until it is gone: for a week unless set otherwise.',
        fix: 'Switch soft delete off.',
        commands: update('--clear-soft-delete'),
      }),
    );
  }
  if (versioning?.enabled === true) {
    findings.push(
      warning(`${address} keeps old versions`, {
        why: 'Records are written every few seconds while a job runs: each version is kept and billed, deleted recordings too.',
        fix: 'Switch versioning off.',
        commands: update('--no-versioning'),
      }),
    );
  }
  if (retentionPolicy !== undefined) {
    findings.push(
      problem(`${address} has a retention period`, {
        why: 'Nothing can be changed or deleted before its time; records change all the time, so no job gets anywhere.',
        fix: 'Remove it, if it is not locked; otherwise take another bucket.',
        commands: [shown(layout, 'storage', 'buckets', 'update', address, '--clear-retention-period')],
      }),
    );
  }
  if (location !== undefined && !isNear(location, layout.region)) {
    findings.push(
      warning(`${address} is in ${location.toLowerCase()}, the services in ${layout.region}`, {
        why: 'Recordings travel between regions, which takes time and is billed.',
        fix: 'A bucket cannot be moved: name another in the environment file.',
      }),
    );
  }
  return [...findings, ...lifecycleFindings(layout, bucket), ...corsFindings(layout, bucket)];
}

/** In the region, or in the continent that holds it. */
function isNear(location: string, region: string): boolean {
  const at = location.toLowerCase();
  return at === region || { eu: 'europe-', us: 'us-', asia: 'asia-' }[at] === /^[a-z]+-/.exec(region)?.[0];
}

interface Rule {
  action?: { type?: string };
  condition?: {
    matchesPrefix?: string[];
    isLive?: boolean;
    numNewerVersions?: number;
    [name: string]: unknown;
  };
}

function lifecycleFindings(layout: Layout, { lifecycle }: StoreBucket): Finding[] {
  const rules = (lifecycle?.rule ?? []) as Rule[];
  const deleting = rules.filter(
    ({ action, condition }) =>
      action?.type === 'Delete' && condition?.isLive !== false && condition?.numNewerVersions === undefined,
  );
  const dangerous = deleting.filter(({ condition }) => {
    const prefixes = condition?.matchesPrefix;
    return prefixes === undefined || prefixes.some((prefix) => KEPT.some((key) => overlaps(prefix, key)));
  });
  const sweepsUploads = deleting.some(({ condition }) =>
    condition?.matchesPrefix?.some((prefix) => prefix === 'uploads/'),
  );
  return [
    ...dangerous.map(({ condition }) =>
      problem(`a lifecycle rule deletes ${condition?.matchesPrefix?.join(', ') ?? 'everything'} by age`, {
        why: `What lies below ${KEPT.join(', ')} is named by records: a job whose parts are gone fails, and transcripts are lost.`,
        fix: 'Deploy again, which puts the rules right.',
        commands: [deployAgain(layout)],
      }),
    ),
    ...(sweepsUploads
      ? []
      : [
          warning('no lifecycle rule removes abandoned uploads', {
            why: 'The service removes them after a day; the rule is the backstop for what it misses.',
            fix: 'Deploy again, which adds it.',
            commands: [deployAgain(layout)],
          }),
        ]),
  ];
}

function overlaps(a: string, b: string): boolean {
  return a.startsWith(b) || b.startsWith(a);
}

function corsFindings(layout: Layout, { cors = [] }: StoreBucket): Finding[] {
  const entries = cors as { origin?: string[]; method?: string[]; responseHeader?: string[] }[];
  const missing = layout.environment.storage.corsOrigins.filter(
    (origin) =>
      !entries.some(
        (entry) =>
          (entry.origin?.includes(origin) || entry.origin?.includes('*')) && entry.method?.includes('PUT'),
      ),
  );
  if (missing.length === 0) return [];
  return [
    problem(`pages of ${missing.join(', ')} may not upload`, {
      why: 'Browsers ask the bucket before they send a recording straight to it, and it says no.',
      fix: 'Deploy again, which sets CORS from the environment file.',
      commands: [deployAgain(layout)],
    }),
  ];
}
