import { usesMistral, usesVertex } from '../access.ts';
import type { Layout } from '../layout.ts';
import type { Step } from '../step.ts';

export function neededApis(layout: Layout): string[] {
  return [
    'artifactregistry.googleapis.com',
    'cloudbuild.googleapis.com',
    'cloudresourcemanager.googleapis.com',
    'cloudtasks.googleapis.com',
    'iam.googleapis.com',
    'run.googleapis.com',
    'secretmanager.googleapis.com',
    'storage.googleapis.com',
    // Signs links in the name of an account that has no key.
    ...(usesMistral(layout) ? ['iamcredentials.googleapis.com'] : []),
    ...(usesVertex(layout) ? ['aiplatform.googleapis.com'] : []),
  ];
}

export const enableApis: Step = {
  title: 'APIs',
  changes({ apis }, { layout }) {
    const missing = neededApis(layout).filter((api) => !apis.has(api));
    if (missing.length === 0) return [];
    return [
      {
        title: `enable ${missing.length === 1 ? 'an API' : `${missing.length} APIs`}`,
        commands: [{ args: ['services', 'enable', ...missing] }],
      },
    ];
  },
};
