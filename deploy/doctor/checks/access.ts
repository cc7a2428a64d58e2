import {
  buildAccess,
  callerAccess,
  formerAccess,
  keyOf,
  memberOf,
  ourMembers,
  type Resource,
  serviceAccess,
} from '../../access.ts';
import type { Layout } from '../../layout.ts';
import { type Grant, type Policy, policyChanges } from '../../policy.ts';
import { type Check, type Finding, ifSeen, notYet, ok, problem, warning } from '../finding.ts';
import { deployAgain, fixing } from '../fix-commands.ts';

const EVERYBODY = new Set(['allUsers', 'allAuthenticatedUsers']);

/** Whether each account may do what it has to, and nobody what nobody should. */
export const checkAccess: Check = {
  title: 'rights',
  look: ({ policies, mayUseVertex, runs }, layout) => {
    const wanted = merged([
      ...buildAccess(layout),
      ...serviceAccess(layout),
      ...callerAccess(layout),
      ...formerAccess(layout),
    ]);
    const findings = wanted.flatMap(({ resource, grants }) => {
      const policy = policies.get(keyOf(resource));
      // What does not exist is told by the check of its kind.
      if (policy === undefined) return [];
      return ifSeen(`Who may use the ${resource.kind} ${resource.name}`, policy, (value) =>
        findingsOf(layout, resource, grants, value),
      );
    });
    if (policies.size === 0) return [notYet('what rights are for')];
    const isDeployed =
      runs.isSeen && runs.value.some(({ metadata }) => metadata.name === layout.services.cpu);
    if (mayUseVertex !== undefined && isDeployed) {
      findings.push(
        ...ifSeen('Who may run jobs at Vertex AI', mayUseVertex, (may) =>
          may
            ? []
            : [
                problem(`${memberOf(layout, 'cpu')} may not run jobs at Vertex AI`, {
                  why: 'Jobs for that backend are refused and go to the next.',
                  fix: 'Deploy again, which makes a role for it and grants it.',
                  commands: [deployAgain(layout)],
                }),
              ],
        ),
      );
    }
    return findings.length > 0 ? findings : [ok(`all accounts have theirs, on ${policies.size} resources`)];
  },
};

function findingsOf(layout: Layout, resource: Resource, grants: Grant[], policy: Policy): Finding[] {
  const { added, removed } = policyChanges(policy, grants, ourMembers(layout));
  const isPublic = resource.name === layout.services.api && layout.environment.api.access === 'public';
  const open = removed.filter(({ member }) => EVERYBODY.has(member) && !isPublic);
  const tooMuch = removed.filter(({ member }) => !EVERYBODY.has(member));
  const on = `the ${resource.kind} ${resource.name}`;
  return [
    ...added.map((grant) =>
      problem(`${grant.member} lacks ${grant.role} on ${on}`, {
        why: consequence(grant.role),
        fix: 'Grant it, on nothing larger. It takes a minute or two to count.',
        commands: [fixing(layout, ...bindingArguments(layout, resource, 'add', grant))],
      }),
    ),
    ...open.map((grant) =>
      problem(`${grant.member} has ${grant.role} on ${on}`, {
        why: 'Anybody can call it: only the check inside the service is left.',
        fix: 'Take it away.',
        commands: [fixing(layout, ...bindingArguments(layout, resource, 'remove', grant))],
      }),
    ),
    ...tooMuch.map((grant) =>
      warning(`${grant.member} has ${grant.role} on ${on} and needs it for nothing`, {
        why: 'Each account should have what it needs and no more.',
        fix: 'Take it away.',
        commands: [fixing(layout, ...bindingArguments(layout, resource, 'remove', grant))],
      }),
    ),
  ];
}

/** What fails without it. */
function consequence(role: string): string {
  switch (role) {
    case 'roles/run.invoker':
      return 'Its calls are answered with 403: tasks are tried again without end.';
    case 'roles/cloudtasks.enqueuer':
      return 'It cannot put tasks on the queue; reconcile cannot either.';
    case 'roles/cloudtasks.viewer':
      return 'It cannot see whether a task is still there, so a job that lost its task is not found.';
    case 'roles/cloudtasks.taskDeleter':
      return 'Jobs are canceled only once their task has started.';
    case 'roles/iam.serviceAccountUser':
      return 'It may not make tasks or jobs in that account’s name: they are refused.';
    case 'roles/iam.serviceAccountTokenCreator':
      return 'It cannot sign links, so every recording passes through it on its way to Mistral.';
    case 'roles/storage.objectUser':
      return 'It can neither read recordings nor write records and transcripts.';
    case 'roles/secretmanager.secretAccessor':
      return 'Its instances do not start.';
    case 'roles/run.jobsExecutorWithOverrides':
      return 'It cannot start the job with a task; such jobs go to the next backend.';
    case 'roles/run.viewer':
      return 'It cannot count executions or see how they ended.';
    default:
      return 'Images cannot be built.';
  }
}

function bindingArguments(
  layout: Layout,
  { kind, name }: Resource,
  verb: 'add' | 'remove',
  { role, member }: Grant,
): string[] {
  const grant = [`--member=${member}`, `--role=${role}`];
  const change = `${verb}-iam-policy-binding`;
  const { region } = layout;
  switch (kind) {
    case 'bucket':
      return ['storage', 'buckets', change, `gs://${name}`, ...grant];
    case 'queue':
      return ['tasks', 'queues', change, name, `--location=${region}`, ...grant];
    case 'account':
      return ['iam', 'service-accounts', change, name, ...grant];
    case 'secret':
      return ['secrets', change, name, ...grant];
    case 'service':
      return ['run', 'services', change, name, `--region=${region}`, ...grant];
    case 'job':
      return ['run', 'jobs', change, name, `--region=${region}`, ...grant];
    case 'repository':
      return ['artifacts', 'repositories', change, name, `--location=${region}`, ...grant];
  }
}

/** One resource may have grants for several reasons. */
function merged(all: { resource: Resource; grants: Grant[] }[]): { resource: Resource; grants: Grant[] }[] {
  const byKey = new Map<string, { resource: Resource; grants: Grant[] }>();
  for (const { resource, grants } of all) {
    const before = byKey.get(keyOf(resource));
    byKey.set(keyOf(resource), { resource, grants: [...(before?.grants ?? []), ...grants] });
  }
  return [...byKey.values()];
}
