// Who may do what with one resource, in the form of Google's IAM.

export interface Policy {
  bindings?: { role: string; members: string[]; condition?: unknown }[];
  etag?: string;
  version?: number;
}

export interface Grant {
  role: string;
  member: string;
}

export interface PolicyChanges {
  added: Grant[];
  removed: Grant[];
}

/** Roles that nobody has but whom we name. */
const EXCLUSIVE_ROLES = new Set(['roles/run.invoker']);

/**
 * What is to change so that `wanted` holds. Of our own accounts everything else is taken away, also what Google keeps
 * of deleted ones of the same name; what others were given stays.
 */
export function policyChanges(
  policy: Policy,
  wanted: readonly Grant[],
  ours: ReadonlySet<string>,
): PolicyChanges {
  const has = (grants: readonly Grant[], { role, member }: Grant) =>
    grants.some((grant) => grant.role === role && grant.member === member);
  const granted = (policy.bindings ?? [])
    .filter(({ condition }) => condition === undefined)
    .flatMap(({ role, members }) => members.map((member) => ({ role, member })));
  const isOurs = (member: string) => ours.has(ofMember(member));
  return {
    added: wanted.filter((grant) => !has(granted, grant)),
    removed: granted.filter(
      (grant) => !has(wanted, grant) && (isOurs(grant.member) || EXCLUSIVE_ROLES.has(grant.role)),
    ),
  };
}

/** Google keeps what deleted ones had: `deleted:serviceAccount:…?uid=…`. */
export function ofMember(member: string): string {
  return member.replace(/^deleted:/, '').replace(/\?uid=.*$/, '');
}

export function changedPolicy(policy: Policy, { added, removed }: PolicyChanges): Policy {
  const isRemoved = (role: string, member: string) =>
    removed.some((grant) => grant.role === role && grant.member === member);
  const bindings = (policy.bindings ?? []).map((binding) =>
    binding.condition === undefined
      ? { ...binding, members: binding.members.filter((member) => !isRemoved(binding.role, member)) }
      : binding,
  );
  for (const { role, member } of added) {
    const binding = bindings.find((one) => one.role === role && one.condition === undefined);
    if (binding === undefined) bindings.push({ role, members: [member] });
    else binding.members = [...binding.members, member];
  }
  return { ...policy, bindings: bindings.filter(({ members }) => members.length > 0) };
}
