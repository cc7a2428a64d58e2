import {
  type Access,
  buildAccess,
  callerAccess,
  formerAccess,
  keyOf,
  memberOf,
  ourMembers,
  serviceAccess,
  usesVertex,
  VERTEX_PERMISSIONS,
} from '../access.ts';
import type { Layout } from '../layout.ts';
import type { Deployed } from '../observe.ts';
import { changedPolicy, type Policy, policyChanges } from '../policy.ts';
import { policyArguments } from '../policy-commands.ts';
import type { Change, Step } from '../step.ts';

export const grantBuildAccess: Step = {
  title: 'rights of the image build',
  changes: (deployed, { layout, withHfToken }) =>
    accessChanges(
      layout,
      deployed,
      // Without a token there is no secret to read.
      buildAccess(layout).filter(({ resource }) => resource.kind !== 'secret' || withHfToken),
    ),
};

export const grantServiceAccess: Step = {
  title: 'rights of the services',
  changes: (deployed, { layout }) => [
    ...vertexChanges(layout, deployed),
    ...accessChanges(layout, deployed, serviceAccess(layout)),
  ],
};

export const grantCallerAccess: Step = {
  title: 'rights to call the services',
  changes: (deployed, { layout }) => accessChanges(layout, deployed, callerAccess(layout)),
};

/** The rights and queues of backends that have left the file. Reconcile moves their jobs on. */
export const removeFormer: Step = {
  title: 'what no backend needs any more',
  changes: (deployed, { layout }) => [
    ...accessChanges(layout, deployed, formerAccess(layout, deployed.secrets.keys())),
    ...deployed.formerQueues.map((name) => ({
      title: `remove the queue ${name}`,
      commands: [{ args: ['tasks', 'queues', 'delete', name, `--location=${layout.region}`] }],
    })),
  ],
};

function accessChanges(layout: Layout, { policies }: Deployed, all: Access[]): Change[] {
  const ours = ourMembers(layout);
  return all.flatMap(({ resource, grants }): Change[] => {
    const { added, removed } = policyChanges(policies.get(keyOf(resource)) ?? {}, grants, ours);
    if (added.length + removed.length === 0) return [];
    return [
      {
        title: `rights on the ${resource.kind} ${resource.name}`,
        details: [
          ...added.map(({ role, member }) => `+ ${role}  ${member}`),
          ...removed.map(({ role, member }) => `- ${role}  ${member}`),
        ],
        commands: [
          { args: [...policyArguments(layout, resource, 'get-iam-policy'), '--format=json'] },
          {
            args: policyArguments(layout, resource, 'set-iam-policy', 'policy.json'),
            // Of what is there at that moment: a new resource may come with rights, and somebody may have changed it.
            files: {
              'policy.json': (before) => {
                const policy = JSON.parse(before || '{}') as Policy;
                return JSON.stringify(changedPolicy(policy, policyChanges(policy, grants, ours)));
              },
            },
          },
        ],
      },
    ];
  });
}

/** The only rights in the project itself: Vertex AI has none on single jobs. */
function vertexChanges(layout: Layout, { vertexRole, projectPolicy }: Deployed): Change[] {
  const { vertexRole: id, project, environment } = layout;
  const role = `projects/${project.id}/roles/${id}`;
  const member = memberOf(layout, 'cpu');
  const isGranted = projectPolicy?.bindings?.some((one) => one.role === role && one.members.includes(member));
  const bind = (verb: 'add' | 'remove') => ({
    args: [
      ...['projects', `${verb}-iam-policy-binding`, project.id],
      ...[`--member=${member}`, `--role=${role}`, '--condition=None'],
    ],
  });
  if (!usesVertex(layout)) {
    const commands = [
      ...(isGranted ? [bind('remove')] : []),
      ...(vertexRole === undefined || vertexRole.deleted === true
        ? []
        : [{ args: ['iam', 'roles', 'delete', id] }]),
    ];
    if (commands.length === 0) return [];
    return [{ title: 'remove the role for Vertex AI jobs, which no backend needs any more', commands }];
  }
  const permissions = `--permissions=${VERTEX_PERMISSIONS.join(',')}`;
  const define = (verb: 'create' | 'update') => ({
    args: [
      'iam',
      'roles',
      verb,
      id,
      `--title=Zeroscribe ${environment.name}: Vertex AI jobs`,
      permissions,
      '--stage=GA',
    ],
  });
  const roleCommands = (() => {
    if (vertexRole === undefined) return [define('create')];
    const isRight = VERTEX_PERMISSIONS.every((one) => vertexRole.includedPermissions?.includes(one));
    const isLarger = (vertexRole.includedPermissions?.length ?? 0) > VERTEX_PERMISSIONS.length;
    return [
      // The name of a deleted role stays taken for weeks.
      ...(vertexRole.deleted === true ? [{ args: ['iam', 'roles', 'undelete', id] }] : []),
      ...(isRight && !isLarger ? [] : [define('update')]),
    ];
  })();
  const grantCommands = isGranted ? [] : [bind('add')];
  if (roleCommands.length + grantCommands.length === 0) return [];
  return [
    {
      title: 'a role for Vertex AI jobs, in the project, for cpu-service',
      details: [...VERTEX_PERMISSIONS.map((one) => `+ ${one}`)],
      commands: [...roleCommands, ...grantCommands],
    },
  ];
}
