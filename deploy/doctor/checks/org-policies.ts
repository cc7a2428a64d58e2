import type { Layout } from '../../layout.ts';
import type { Facts, OrgPolicy, OrgPolicyRule } from '../facts.ts';
import { type Check, type Finding, ifSeen, ok, problem, warning } from '../finding.ts';

type Reading = (policy: OrgPolicy, layout: Layout, facts: Facts) => Finding[];

/** What an organisation may forbid. Rules with a condition hold only where a tag is set, so they are left aside. */
const READINGS: Readonly<Record<string, Reading>> = {
  'run.managed.requireInvokerIam': (policy, { environment }) =>
    isEnforced(policy) && environment.api.access === 'public'
      ? [
          problem('the organisation wants every caller of a service checked', {
            why: 'A public API is deployed without that check, and is refused.',
            fix: 'Set api.access to iam in the environment file and name in api.invokers who may call it; or let the organisation make an exception for the project.',
          }),
        ]
      : [],
  'run.allowedIngress': (policy) =>
    allows(policy, 'all')
      ? []
      : [
          problem('the organisation forbids services that take calls from everywhere', {
            why: 'The API is deployed with ingress all, and is refused.',
            fix: 'Let the organisation allow it for the project, or put a load balancer before the API.',
          }),
        ],
  'gcp.resourceLocations': (policy, { region }) =>
    locationGroups(region).some((name) => allows(policy, name))
      ? []
      : [
          problem(`the organisation allows no resources in ${region}`, {
            why: 'Bucket, queues, images and services are all made there, and refused.',
            fix: 'Choose an allowed region that has L4: europe-west1, europe-west4, us-east4.',
          }),
        ],
  'iam.disableServiceAccountCreation': (policy, layout, { accounts }) => {
    const isMissing = Object.values(layout.accounts).some(
      (email) => accounts.isSeen && !accounts.value.has(email),
    );
    if (!isEnforced(policy) || !isMissing) return [];
    return [
      problem('the organisation forbids making service accounts', {
        why: 'Each service runs as one of its own; `up` cannot make them.',
        fix: `Let an administrator make ${Object.values(layout.accounts).join(', ')}.`,
      }),
    ];
  },
  'iam.allowedPolicyMemberDomains': (policy, { environment }) => {
    const { invokers } = environment.api;
    if (allows(policy, undefined) || !invokers.some((one) => !one.startsWith('serviceAccount:'))) return [];
    return [
      warning('the organisation lets only its own accounts have rights', {
        why: `Of ${invokers.join(', ')} those of other domains are refused as invokers of the API.`,
        fix: 'Name only accounts of the organisation in api.invokers.',
      }),
    ];
  },
};

export const checkOrgPolicies: Check = {
  title: 'organisation policies',
  look: (facts, layout) => {
    const all = [...facts.orgPolicies];
    const hidden = all.flatMap(([, policy]) => (policy.isSeen ? [] : [policy]));
    if (hidden.some(({ isToldElsewhere }) => isToldElsewhere)) return [];
    const reasons = hidden.map(({ why }) => why);
    // One missing right hides all of them: said once.
    if (reasons.length > 0 && reasons.length === all.length) {
      return [warning('organisation policies could not be seen', { why: reasons[0] ?? '' })];
    }
    const findings = all.flatMap(([name, policy]) =>
      ifSeen(`The policy ${name}`, policy, (value) => READINGS[name]?.(value, layout, facts) ?? []),
    );
    return findings.length > 0 ? findings : [ok('none is in the way')];
  },
};

function rulesOf({ spec }: OrgPolicy): OrgPolicyRule[] {
  return (spec?.rules ?? []).filter(({ condition }) => condition === undefined);
}

function isEnforced(policy: OrgPolicy): boolean {
  return rulesOf(policy).some(({ enforce }) => enforce === true);
}

/** Whether a list allows a value; undefined is one that stands on no list. */
function allows(policy: OrgPolicy, value: string | undefined): boolean {
  const rules = rulesOf(policy);
  if (rules.some(({ denyAll }) => denyAll === true)) return false;
  const stripped = (texts: string[] = []) => texts.map((text) => text.replace(/^(?:in|is):/, ''));
  const denied = rules.flatMap(({ values }) => stripped(values?.deniedValues));
  if (value !== undefined && denied.includes(value)) return false;
  if (rules.some(({ allowAll }) => allowAll === true)) return true;
  const allowed = rules.flatMap(({ values }) => stripped(values?.allowedValues));
  return allowed.length === 0 || (value !== undefined && allowed.includes(value));
}

/** A region by all names that a policy may use for it. */
function locationGroups(region: string): string[] {
  const continent = /^[a-z]+/.exec(region)?.[0] ?? '';
  return [
    region,
    `${region}-locations`,
    `${continent}-locations`,
    ...(continent === 'europe' ? ['eu-locations'] : []),
  ];
}
