import { type Manifest, manifestHash, toYaml } from '../knative.ts';
import type { Layout } from '../layout.ts';
import { manifestDifferences } from '../manifest-differences.ts';
import { manifests } from '../manifests.ts';
import { type Deployed, runKey } from '../observe.ts';
import type { Change, Step } from '../step.ts';

/** Callees before their callers, so that nothing is called that is not there. */
export const replacePrivateServices: Step = {
  title: 'services and jobs',
  changes: (deployed, { layout }) =>
    replacements(layout, deployed, ({ metadata }) => metadata.name !== layout.services.api),
};

export const replaceApi: Step = {
  title: 'API',
  changes: (deployed, { layout }) =>
    replacements(layout, deployed, ({ metadata }) => metadata.name === layout.services.api),
};

function replacements(layout: Layout, { runs }: Deployed, isWanted: (one: Manifest) => boolean): Change[] {
  return manifests(layout)
    .filter(isWanted)
    .flatMap((manifest): Change[] => {
      const { kind, metadata } = manifest;
      const { name } = metadata;
      const found = runs.get(runKey(kind, name));
      const what = `${kind === 'Job' ? 'job' : 'service'} ${name}`;
      const isSame = found !== undefined && manifestHash(found) === manifestHash(manifest);
      const differences = found === undefined ? [] : manifestDifferences(found, manifest, isSame);
      if (isSame && differences.length === 0 && isReady(found?.status)) return [];
      return [
        {
          title: found === undefined ? `deploy the ${what}` : `deploy the ${what} again`,
          details:
            found === undefined
              ? yamlLines(manifest)
              : differences.length === 0
                ? [isSame ? 'its last deployment did not succeed' : 'something was taken out of its manifest']
                : differences,
          commands: [
            {
              args: [
                'run',
                kind === 'Job' ? 'jobs' : 'services',
                'replace',
                `${name}.yaml`,
                `--region=${layout.region}`,
              ],
              files: { [`${name}.yaml`]: toYaml(manifest) },
            },
          ],
        },
      ];
    });
}

/** The whole manifest, as what is to come. */
function yamlLines(manifest: Manifest): string[] {
  return toYaml(manifest)
    .trimEnd()
    .split('\n')
    .map((line) => `+ ${line}`);
}

function isReady(status: { conditions?: { type: string; status: string }[] } | undefined): boolean {
  return status?.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True') ?? false;
}
