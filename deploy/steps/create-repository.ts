import type { Step } from '../step.ts';

/** A GPU image has several gigabytes, and each version is billed until it is deleted. */
const KEPT_VERSIONS = 3;
const CLEANUP = [
  { name: 'delete-old', action: { type: 'Delete' }, condition: { tagState: 'any', olderThan: '7d' } },
  { name: 'keep-newest', action: { type: 'Keep' }, mostRecentVersions: { keepCount: KEPT_VERSIONS } },
];

export const createRepository: Step = {
  title: 'image repository',
  changes({ repository }, { layout }) {
    const location = `--location=${layout.region}`;
    const cleanUp = {
      args: [
        'artifacts',
        'repositories',
        'set-cleanup-policies',
        layout.repository,
        location,
        '--policy=cleanup.json',
        '--no-dry-run',
      ],
      files: { 'cleanup.json': JSON.stringify(CLEANUP) },
    };
    if (repository === undefined) {
      return [
        {
          title: `make the repository ${layout.repository}, which keeps the last ${KEPT_VERSIONS} versions of an image`,
          commands: [
            {
              args: [
                'artifacts',
                'repositories',
                'create',
                layout.repository,
                '--repository-format=docker',
                location,
                `--labels=${labelText(layout.labels)}`,
              ],
            },
            cleanUp,
          ],
        },
      ];
    }
    const kept = Object.keys(repository.cleanupPolicies ?? {});
    if (CLEANUP.every(({ name }) => kept.includes(name))) return [];
    return [
      {
        title: `let the repository keep the last ${KEPT_VERSIONS} versions of an image`,
        commands: [cleanUp],
      },
    ];
  },
};

export function labelText(labels: Record<string, string>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
}
