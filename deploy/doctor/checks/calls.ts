import { parseBackends } from '../../../core/backends.ts';
import type { Layout } from '../../layout.ts';
import { manifests } from '../../manifests.ts';
import type { DeployedRun } from '../../observe.ts';
import { variablesOf } from '../deployed-run.ts';
import { type Check, type Finding, ifSeen, notYet, ok, problem } from '../finding.ts';
import { deployAgain } from '../fix-commands.ts';

/**
 * Whether those who call know where, and those who are called know for whom a token is made. Both are told by
 * variables, so two services that were deployed at different times may disagree.
 */
export const checkAddresses: Check = {
  title: 'addresses and audiences',
  look: ({ runs }, layout) =>
    ifSeen('Services and jobs', runs, (all) => {
      const names = new Set(manifests(layout).map(({ metadata }) => metadata.name));
      const ours = all.filter(({ metadata }) => names.has(metadata.name));
      if (ours.length === 0) return [notYet('the services')];
      const wrong = ours.flatMap((run) => [
        ...callerFindings(layout, run, ours),
        ...calleeFindings(layout, run),
      ]);
      return wrong.length > 0 ? wrong : [ok('all services mean the same addresses and the same account')];
    }),
};

function callerFindings(layout: Layout, run: DeployedRun, ours: readonly DeployedRun[]): Finding[] {
  const { name } = run.metadata;
  const { CPU_SERVICE_URL, TASK_INVOKER_EMAIL, BACKENDS } = variablesOf(run);
  const disagrees = (what: string, why: string): Finding =>
    problem(`${name}: ${what}`, {
      why,
      fix: 'Deploy all services again from one environment file.',
      commands: [deployAgain(layout)],
    });
  const found: Finding[] = [];
  if (!addressesOf(layout, layout.services.cpu, ours).has(withoutSlash(CPU_SERVICE_URL ?? ''))) {
    found.push(
      disagrees(
        `CPU_SERVICE_URL is ${CPU_SERVICE_URL ?? 'not set'}, and ${layout.services.cpu} is at ${layout.urls.cpu}`,
        'Its tasks go to another address, with a token for that.',
      ),
    );
  }
  if (TASK_INVOKER_EMAIL !== layout.accounts.invoker) {
    found.push(
      disagrees(
        `TASK_INVOKER_EMAIL is ${TASK_INVOKER_EMAIL ?? 'not set'}, not ${layout.accounts.invoker}`,
        'Tasks are brought in the name of an account that nobody lets in, or refused from the right one.',
      ),
    );
  }
  for (const { backend, url } of pushedBackends(BACKENDS)) {
    const wanted = layout.environment.backends.find((one) => one.name === backend);
    if (wanted === undefined) continue;
    const isRight =
      wanted.kind === 'server'
        ? withoutSlash(url) === withoutSlash(wanted.url)
        : addressesOf(layout, layout.backendName(wanted), ours).has(withoutSlash(url));
    if (!isRight) {
      found.push(
        disagrees(
          `BACKENDS says ${url} for ${backend}, which is at ${layout.backendUrl(wanted)}`,
          'Its tasks go to another address, with a token for that.',
        ),
      );
    }
  }
  return found;
}

function calleeFindings(layout: Layout, run: DeployedRun): Finding[] {
  const { name } = run.metadata;
  if (run.kind !== 'Service' || name === layout.services.api) return [];
  const { TASK_AUTH, TASK_AUDIENCE } = variablesOf(run);
  const backend = layout.environment.backends.find((one) => layout.backendName(one) === name);
  const called = backend === undefined ? layout.urls.cpu : layout.backendUrl(backend);
  const remedy = { fix: 'Deploy it again.', commands: [deployAgain(layout)] };
  return [
    ...(TASK_AUTH === 'iam'
      ? []
      : [
          problem(`${name}: TASK_AUTH is ${TASK_AUTH ?? 'not set'}`, {
            why: 'On Cloud Run the platform checks the token and takes its signature away, so that only iam works.',
            ...remedy,
          }),
        ]),
    ...(withoutSlash(TASK_AUDIENCE ?? '') === called
      ? []
      : [
          problem(`${name}: TASK_AUDIENCE is ${TASK_AUDIENCE ?? 'not set'}, and tasks carry ${called}`, {
            why: 'Every task is answered with 401 and tried again without end.',
            ...remedy,
          }),
        ]),
  ];
}

/** A service has two addresses: the one made of the project’s number, and the one that Cloud Run chose. */
function addressesOf(layout: Layout, service: string, ours: readonly DeployedRun[]): Set<string> {
  const { project, region } = layout;
  const url = ours.find(({ kind, metadata }) => kind === 'Service' && metadata.name === service)?.status?.url;
  return new Set([
    `https://${service}-${project.number}.${region}.run.app`,
    ...(url === undefined ? [] : [withoutSlash(url)]),
  ]);
}

function pushedBackends(text: string | undefined): { backend: string; url: string }[] {
  if (text === undefined) return [];
  try {
    return parseBackends(text).flatMap((one) => ('url' in one ? [{ backend: one.name, url: one.url }] : []));
  } catch {
    // The service itself refuses to start with such a list, which is told elsewhere.
    return [];
  }
}

function withoutSlash(url: string): string {
  return url.replace(/\/+$/, '');
}
